// What a user sees while a run goes on: one line that is rewritten on a terminal, plain lines now
// and then elsewhere.
#pragma once

#include <chrono>
#include <mutex>
#include <string>

#include "sim/record/log.h"

namespace strait::cli {

// Safe to use from several threads.
class Progress {
 public:
  Progress(int64_t steps, bool quiet);
  void trained(const record::StepLog& step);
  void simulated(int64_t step, double virtual_seconds);
  // A step of a record that was trained before.
  void replayed(int64_t step, uint64_t tokens, double loss, double virtual_seconds);
  // The last word, after training and simulation have ended.
  void finish();

 private:
  void show(bool force);
  std::string line() const;

  using Clock = std::chrono::steady_clock;
  std::mutex mutex_;
  int64_t steps_;
  bool quiet_, terminal_;
  Clock::time_point start_, last_shown_;
  int64_t trained_ = 0, simulated_ = 0;
  uint64_t tokens_ = 0;
  double loss_ = 0, virtual_ = 0;
  bool open_ = false;
};

// "1 h 04 min", "3 min 20 s", "12.4 s", "80.5 ms".
std::string duration_text(double seconds);
// "3.4 MB" (decimal).
std::string bytes_text(double bytes);

}  // namespace strait::cli
