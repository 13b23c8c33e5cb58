// What a user sees while a run goes on: one line that is rewritten on a terminal, plain lines now
// and then elsewhere.
#pragma once

#include <chrono>
#include <cmath>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

#include "sim/record/log.h"

namespace strait::cli {

// Safe to use from several threads. Says how many tokens/s this machine trains, or, where it computes
// none of them (the meta backend, a replay, a training from the cache), how many steps/s it does.
class Progress {
 public:
  Progress(int64_t steps, bool quiet);
  void trained(const record::StepLog& step);
  // A line of strait-sim's: {"step", "loss", "time_s", ...}.
  void simulated(const nlohmann::ordered_json& line);
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
  int64_t done_ = 0;     // steps trained here; a resumed run has more behind it
  uint64_t tokens_ = 0;  // of those that had a loss
  double loss_ = std::nan(""), virtual_ = 0;
  bool open_ = false;
};

// Prints to standard output at once. One that is full or has gone away ends nothing: what is worth
// keeping is in the files.
void say(const std::string& text);

// "1 h 04 min", "3 min 20 s", "12.4 s", "80.5 ms".
std::string duration_text(double seconds);
// "3.4 MB" (decimal).
std::string bytes_text(double bytes);

}  // namespace strait::cli
