// What the scenario says of one direction of a pipeline boundary: the part of MethodOptions that baselines (baseline.h) also have for gradients
// alone.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "kernels/dtype.h"

namespace strait {

struct DirectionOptions {
  std::string method = "none";
  DType wire = DType::
      f32;  // of coefficients and activations on the wire: f32, bf16, resbm's f16, too (f64 in tests)
  // subspace, frozen, mapl: k; resbm: c; topk: entries a token; column_mask: columns; lowrank: rank
  std::optional<int> rank;
  // wire ratio to come closest to, over the directions that the method codes; exclusive with rank
  std::optional<double> ratio;
  std::string format = "bf16";          // cast: "bf16", "fp16", "fp8_e4m3"
  int bits = 8;                         // quantize: 8, 4
  std::string scale = "token";          // quantize: "token", "group"
  int group = 128;                      // quantize, scale group: neighbours that share a scale
  std::string rounding = "nearest";     // quantize: "nearest", "stochastic"
  std::string error_feedback = "none";  // topk: "none", "per_microbatch"
  int64_t refresh =
      0;  // column_mask: steps from one choice of columns to the next; 0: every message
  std::string anchors =
      "none";  // frozen, column_mask: "none", "static" (a frozen random token table is taken off before)
  uint64_t basis_seed = 1337;  // subspace, frozen, mapl: of the bases; of the token tables
};

// The batches that a codec's states and ratios depend on.
struct BatchShape {
  int64_t rows = 0;  // tokens of a microbatch; 0: not known
  int microbatches = 0;
  int64_t first_step = 1;  // of this phase of the training
};

}  // namespace strait
