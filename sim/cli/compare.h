// The closing table of a run: the same record over other networks, and the uncompressed method over
// all of them. The uncompressed messages come from a run on the meta backend, so no second training
// is needed.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "engine/trainer.h"
#include "sim/cli/simulator.h"
#include "sim/scenario/scenario.h"

namespace strait::cli {

struct ComparisonRow {
  std::string method, network;
  double step_seconds = 0;     // mean over the steps after the first, whose connections are cold
  double virtual_seconds = 0;  // until the end of the last step
  double tokens_per_second = 0;
  double bytes_per_step = 0;  // mean: phases of a training may differ
  int64_t extended = 0;       // how many steps were simulated, where the run has more; 0: all
};

// What a simulation that has ended says; method and network are left empty.
ComparisonRow row_of(const Simulator& simulator);

// Rows for output.compare_networks, the run's own network first. Writes into RUN/compare/. `own`:
// the finished run's own row. The uncompressed method is that of the first phase; it is left out where
// devices.timing is "measured".
std::vector<ComparisonRow> compare(const std::filesystem::path& run,
                                   const scenario::Scenario& scenario, const TrainingConfig& config,
                                   const ComparisonRow& own);

void print_rows(const std::vector<ComparisonRow>& rows);

}  // namespace strait::cli
