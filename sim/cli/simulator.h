// strait-sim as a child of a command: started on a run directory, listened to line by line.
#pragma once

#include <filesystem>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "sim/cli/child_process.h"

namespace strait::cli {

class Simulator {
 public:
  // `follow`: the record grows until close(). `scenario`, `out`, `reference`: as strait-sim's options; empty: its defaults.
  struct Options {
    std::filesystem::path run, scenario, out, reference;
    bool follow = false;
  };
  // `on_step` is called from a thread of its own with each progress line: {"step", "tokens", "loss", "time_s", "step_s", ...}.
  explicit Simulator(const Options& options,
                     std::function<void(const nlohmann::ordered_json&)> on_step = {});

  bool running() { return child_.running(); }
  // Asks it to end early; finish() then returns 130.
  void stop() { child_.terminate(); }
  // No more will come; waits for the end. Returns the exit status.
  int finish() { return child_.wait(); }
  // After finish(): the summary, null if there is none; and the virtual seconds after the first and the last step.
  const nlohmann::ordered_json& summary() const { return summary_; }
  double first_step_seconds() const { return first_; }
  double last_seconds() const { return last_; }
  int64_t steps() const { return steps_; }

 private:
  void take(const std::string& line);

  std::function<void(const nlohmann::ordered_json&)> on_step_;
  nlohmann::ordered_json summary_;
  double first_ = 0, last_ = 0;
  int64_t steps_ = 0;
  ChildProcess child_;  // last: its thread uses the rest
};

}  // namespace strait::cli
