// This machine as a device for virtual time (sim/device): its best rates, what a training's ops reach of them, and what an op
// costs beside its arithmetic and traffic. Everything is measured by wall clock on ops of the backend itself.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace strait {

struct MeasuredOp {
  std::string name;    // "matmul 2048x768x2304 bf16"
  double seconds = 0;  // the fastest of several rounds
  double flops = 0, bytes = 0;
  bool compute_bound = false;  // on this machine's rates
  double share = 0;            // of the rate that bounds it
};

struct Calibration {
  double fp32_flops = 0, bf16_matrix_flops = 0;  // per second: the best of square products
  double memory_bytes = 0;                       // per second: the best of sums of large vectors
  // Of the ops of a transformer block and of AdamW, together: time at the best rate over time.
  double compute_efficiency = 0, memory_efficiency = 0;
  double launch_seconds = 0;  // an op on a few elements
  std::vector<MeasuredOp> ops;
};

// `seconds`: spent on each op, at least 3 rounds. Throws std::bad_alloc where the device has less than a GiB free.
Calibration calibrate(Backend& ops, double seconds);

}  // namespace strait
