// One step while it is replayed: its log, the times found so far, and the log's references (message
// ids, events) turned into indices once, so that the replay looks nothing up.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/executor/timing.h"
#include "sim/record/log.h"

namespace strait::sim {

enum class MessageState : uint8_t { unsent, in_flight, delivered };

// The times of an entry that has not finished.
inline constexpr EntryTiming kNotReached{.start = Nanoseconds::max(), .end = Nanoseconds::max()};

struct StepRun {
  // Throws std::invalid_argument for a receive without a matching send, a send without its receive,
  // or a wait without its signal.
  explicit StepRun(record::StepLog log);

  StepTiming timing;
  // Indexed [rank][entry]: of a send or receive its message, of a wait the entry that signals its
  // event, else -1.
  std::vector<std::vector<int32_t>> reference;
  // Indexed [rank][queue]: that queue's entries in order. Every rank has at least queue 0.
  std::vector<std::vector<std::vector<int32_t>>> queues;
  std::vector<MessageState> message_state;
  int ranks_left = 0;  // that have not finished the step

  const record::Entry& entry(int rank, int32_t index) const {
    return timing.log.ranks[rank].entries[index];
  }
};

// Throws std::logic_error if a delivery at `now` contradicts what was sent, or its parts do not add
// up.
void check_delivery(const Delivery& delivery, const MessageTiming& message, Nanoseconds now);

}  // namespace strait::sim
