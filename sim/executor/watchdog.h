// The text that a standstill ends with: which rank waits for which message, whether it was sent,
// what is in flight.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "sim/executor/patience.h"
#include "sim/executor/rank_state.h"
#include "sim/executor/step_run.h"

namespace strait::sim {

// How long messages have been in flight without a delivery or a new message.
class Silence {
 public:
  explicit Silence(Patience patience) : patience_(patience) {}
  void note_progress(Nanoseconds now);
  // What is too long, in words, once it is.
  std::optional<std::string> too_long(Nanoseconds now);

 private:
  Patience patience_;
  Nanoseconds since_;
  std::optional<double> since_host_;  // set when silence is first looked at
};

struct Standing {
  int rank = 0;
  const RankState* state = nullptr;
  const StepRun* step = nullptr;
};

// At most 64 queues are listed, and 64 lines of `in_flight`, the network's own list.
std::string describe_standstill(const std::string& why, Nanoseconds now,
                                const std::vector<Standing>& ranks, const std::string& in_flight);

}  // namespace strait::sim
