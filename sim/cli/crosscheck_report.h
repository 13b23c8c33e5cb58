// What `strait crosscheck` tells: tables on the terminal, and the same figures as CSV (columns: docs/crosscheck.md).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "sim/cli/crosscheck.h"

namespace strait::cli {

struct CheckedRun {
  std::string label, method;
  std::vector<ModelTimes> models;  // at least two, the same in all runs; the last is the reference
};

void print_crosscheck(const std::vector<CheckedRun>& runs);

// Writes crosscheck.csv and crosscheck_steps.csv into `out` and returns their paths. Throws sim::RunFileError.
std::vector<std::filesystem::path> write_crosscheck(const std::vector<CheckedRun>& runs,
                                                    const std::filesystem::path& out);

}  // namespace strait::cli
