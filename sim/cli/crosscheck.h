// One record under several network models: how far the models disagree over each message and each step, and whether they put
// methods into the same order. The rule of each figure is in docs/crosscheck.md.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace strait::cli {

struct MessageTime {
  int64_t step = 0;
  int from = 0, to = 0;
  std::string kind;  // "forward", "backward", "sync"
  int microbatch = -1;
  uint64_t bytes = 0;
  double transfer_s = 0;  // delivered - sent
};

struct TargetTime {
  double loss = 0;
  std::optional<double> time_s;  // unset: not reached
};

// What one simulation found out, from its files.
struct ModelTimes {
  std::string model;
  std::vector<MessageTime> messages;  // in an order that no model changes
  std::vector<double> steps;          // step_s
  std::vector<TargetTime> targets;    // those of which it is known whether they are reached

  double first_step_s() const { return steps.empty() ? 0 : steps.front(); }
  double later_steps_s() const;  // mean; of the first where there is no other
  double run_s() const;
};

// Reads messages.csv (of all steps), steps.csv and summary.json of `directory`. Throws std::runtime_error naming file and line.
ModelTimes read_times(const std::filesystem::path& directory, const std::string& model);

// Of |model / reference - 1|: `worst` with its index in the compared list.
struct Spread {
  double median = 0, percentile95 = 0, worst = 0;
  size_t worst_index = 0;
};
struct Disagreement {
  Spread messages, steps;
  double message_bias = 0;  // median of model / reference - 1
  double step_bias = 0;     // later_steps_s of the model over the reference's, minus 1
};
// Throws std::invalid_argument if the two do not hold the same messages and steps.
Disagreement disagreement(const ModelTimes& model, const ModelTimes& reference);

// Runs (by index) from the smallest value to the largest; unset values are last; equal ones stay in the order of their index.
std::vector<size_t> order_of(const std::vector<std::optional<double>>& values);
// Pairs of runs whose order differs between two lists of values: the first is strictly ahead in one and strictly behind in the other.
std::vector<std::pair<size_t, size_t>> changed_places(const std::vector<std::optional<double>>& a,
                                                      const std::vector<std::optional<double>>& b);

}  // namespace strait::cli
