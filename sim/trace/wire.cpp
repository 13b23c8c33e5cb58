// Sorting messages by crossing and adding them up (sim/trace/wire.h).
#include "sim/trace/wire.h"

#include <algorithm>
#include <cstdlib>

namespace strait::sim {

void Traffic::add(const MessageTiming& message) {
  ++messages;
  dense += message.dense;
  bytes += message.payload;
  sync += message.sync;
  transfer += message.delivery.delivered - message.delivery.sent;
}

Traffic& Traffic::operator+=(const Traffic& other) {
  messages += other.messages;
  dense += other.dense;
  bytes += other.bytes;
  sync += other.sync;
  transfer += other.transfer;
  return *this;
}

void Crossing::add(const MessageTiming& message) {
  switch (message.kind) {
    case record::MessageKind::forward:
      forward.add(message);
      break;
    case record::MessageKind::backward:
      backward.add(message);
      break;
    case record::MessageKind::sync:
      synchronisation.add(message);
      break;
  }
}

Traffic Crossing::total() const {
  Traffic sum = forward;
  sum += backward;
  sum += synchronisation;
  return sum;
}

WireBook::WireBook(const record::RecordHeader& header)
    : ranks_(header.ranks), boundaries_(static_cast<size_t>(header.pipeline - 1)) {}

void WireBook::add(const StepTiming& step) {
  for (const MessageTiming& message : step.messages) {
    const record::RankInfo &from = ranks_[message.from], &to = ranks_[message.to];
    all_.add(message);
    if (from.replica != to.replica) {
      data_.add(message);
    } else if (from.shard != to.shard) {
      context_.add(message);
    } else {
      pipeline_.add(message);
      if (std::abs(from.stage - to.stage) == 1)
        boundaries_[std::min(from.stage, to.stage)].add(message);
    }
  }
}

}  // namespace strait::sim
