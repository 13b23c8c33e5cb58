// The work of a sweep as files and command lines, the same for every launcher: what a training and a
// replay need before they start, how they are called, and what has come of them.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "sim/sweep/plan.h"
#include "sim/sweep/run_table.h"

namespace strait::sweep {

struct Programs {
  std::string strait, strait_sim;  // paths
};

// Makes the scenario file of a training; `host_threads` as devices.host_threads. Throws
// std::system_error or sim::RunFileError.
void prepare_training(const SweepDirectory& directory, const PlannedTraining& training,
                      int host_threads);
// Makes the directory of a point anew, with its scenario and a link to the record of its training.
void prepare_point(const SweepDirectory& directory, const Plan& plan, const PlannedPoint& point);

// Standard error of either belongs into SweepDirectory::training_errors() or run_errors().
std::vector<std::string> training_command(const Programs& programs, const SweepDirectory& directory,
                                          const PlannedTraining& training);
std::vector<std::string> replay_command(const Programs& programs, const SweepDirectory& directory,
                                        const Plan& plan, const PlannedPoint& point);

// What a program has written to standard error, in one line, without the sweep directory's path. ""
// if it wrote nothing.
std::string error_text(const SweepDirectory& directory, const std::filesystem::path& errors);

// Of a program that said nothing.
void remove_if_empty(const std::filesystem::path& errors);

// The last word on a point whose replay has ended: its summary, or the error with `status` where
// nothing else is known.
Outcome outcome_of(const SweepDirectory& directory, const PlannedPoint& point,
                   const std::string& status);

// "killed by signal 9", "ended with status 3".
std::string status_text(int status);

}  // namespace strait::sweep
