// What a user sees while a sweep goes on: one line that is rewritten on a terminal, a line for each
// finished job elsewhere; the time left from the plan's estimates, corrected by what is known.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "sim/sweep/plan.h"

namespace strait::cli {

class SweepProgress {
 public:
  // A training or a replay under way. `share` of it is done, from 0 to 1.
  struct Running {
    std::string name;
    bool training = false;
    double estimate = 0;  // host seconds
    double share = 0;
    double seconds = 0;  // since its start; of one that has ended, 0 where that is not known
  };

  // `trainings`, `points`: what there is to do, by index; `jobs` at once.
  SweepProgress(const sweep::Plan& plan, const std::vector<size_t>& trainings,
                const std::vector<size_t>& points, int jobs, bool quiet);

  // A job has ended; `error` is "" where all is well. Failures are shown even if quiet.
  void finished(const Running& job, const std::string& error);
  void show(const std::vector<Running>& running);
  // Clears the line on a terminal, so that something else can be printed.
  void clear();

 private:
  // Estimates and what came of them, of one kind of job.
  struct Account {
    size_t total = 0, done = 0;
    double estimated_total = 0;  // of all
    double estimated_done = 0, spent = 0;
  };

  double seconds_left(const std::vector<Running>& running) const;
  std::string line(const std::vector<Running>& running) const;
  Account& account(const Running& job) { return job.training ? trainings_ : replays_; }

  using Clock = std::chrono::steady_clock;
  Account trainings_, replays_;
  int jobs_;
  bool quiet_, terminal_, open_ = false;
  Clock::time_point last_shown_;
};

}  // namespace strait::cli
