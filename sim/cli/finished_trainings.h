// The cache of finished trainings (sim/sweep/cache.h) as `strait run` uses it: what a training depends on, and when the cache is
// left alone.
#pragma once

#include <filesystem>
#include <string>

#include "sim/cli/training_job.h"

namespace strait::cli {

class FinishedTrainings {
 public:
  // `use` false: takes and keeps nothing. Nor does it for the meta backend, whose training costs nothing, and for measured times,
  // which a user wants measured now.
  FinishedTrainings(const TrainingJob& job, bool use);

  // Whether there is one to take, as far as can be told without reading it.
  bool has() const;
  // Puts the record and the checkpoints of the same training into the run directory, if there are any.
  bool take(const std::filesystem::path& directory) const;
  // Keeps those of a finished run. A cache that cannot be written is told to standard error and harms nothing.
  void keep(const std::filesystem::path& directory, double host_seconds) const;

 private:
  const TrainingJob& job_;
  std::string key_;  // "": not used
};

}  // namespace strait::cli
