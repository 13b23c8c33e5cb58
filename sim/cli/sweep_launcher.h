// A sweep under way, and the two ways to do its work: processes on this machine, job arrays of Slurm.
// Both leave the same files, runs.csv included, byte for byte.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "sim/sweep/plan.h"
#include "sim/sweep/run_table.h"
#include "sim/sweep/work.h"

namespace strait::cli {

struct SweepState {
  const sweep::Plan& plan;
  sweep::SweepDirectory directory;
  sweep::RunTable table;
  sweep::Programs programs;
  // Whether a training has its whole record.
  std::function<bool(size_t training)> has_record;
  // What earlier sessions have left to do, by index: points without a whole summary, and the
  // trainings that these need and that have no whole record.
  std::vector<size_t> points, trainings;
  int jobs = 0;  // 0: the launcher's default
  bool quiet = false;
};

// Do what is left; every outcome is in state.table and in runs.csv. False if interrupted.
// Throw std::exception where the work cannot be done at all (no disk, no Slurm).
bool run_locally(SweepState& state);
bool run_on_slurm(SweepState& state);

// How many processes run at once on this machine by default.
int default_jobs();

// The error of a training as its points have it.
std::string training_error(const SweepState& state, size_t training, const std::string& status);

}  // namespace strait::cli
