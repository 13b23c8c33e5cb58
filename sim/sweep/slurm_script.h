// The two sbatch scripts of a sweep, written to be read: one job array for the trainings, one for
// the replays.
#pragma once

#include <string>
#include <vector>

#include "sim/sweep/work.h"

namespace strait::sweep {

struct SlurmOptions {
  Programs programs;
  std::string working_directory;  // relative paths of scenarios start here
  int at_once = 0;                // tasks of an array at once; 0: as many as the cluster gives
};

// Names of the jobs: of this sweep directory alone, so that a later session finds them in the queue.
std::string trainings_job_name(const SweepDirectory& directory, const Plan& plan);
std::string replays_job_name(const SweepDirectory& directory, const Plan& plan);

// `directory.root` is absolute. `trainings`, `points`: indices of what is to be done, at least one.
std::string trainings_script(const SweepDirectory& directory, const Plan& plan,
                             const std::vector<size_t>& trainings, const SlurmOptions& options);
std::string replays_script(const SweepDirectory& directory, const Plan& plan,
                           const std::vector<size_t>& points, const SlurmOptions& options);

}  // namespace strait::sweep
