// The walk back along the critical path (sim/executor/attribution.h).
#include "sim/executor/attribution.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

namespace strait::sim {
namespace {

// Moves up to `left` from `part` into `sum`.
void take(Nanoseconds& sum, Nanoseconds part, Nanoseconds& left) {
  const Nanoseconds taken = std::min(part, left);
  sum += taken;
  left -= taken;
}

// Counts the last `length` of a message's life.
void add_message(Attribution& path, const Delivery& d, Nanoseconds length) {
  take(path.propagation, d.propagation, length);
  take(path.serialisation, d.serialisation, length);
  take(path.recovery, d.recovery, length);
  take(path.window, d.window, length);
  take(path.queue, d.queue, length);
  take(path.host, d.host, length);
}

}  // namespace

Attribution attribute(const StepTiming& step) {
  Attribution path;
  Nanoseconds now = step.end;
  size_t rank = 0;
  while (rank < step.ranks.size() && step.ranks[rank].end != step.end) ++rank;
  int32_t entry = rank < step.ranks.size() ? step.ranks[rank].last_entry : -1;

  while (now > step.begin && entry >= 0) {
    const EntryTiming& timing = step.entries[rank][entry];
    if (timing.message >= 0) {
      const MessageTiming& message = step.messages[timing.message];
      const Nanoseconds from = std::max(message.delivery.sent, step.begin);
      add_message(path, message.delivery, now - from);
      now = from;
      rank = message.from;
      entry = message.send_entry;
      continue;
    }
    const auto* compute = std::get_if<record::Compute>(&step.log.ranks[rank].entries[entry].action);
    if (compute) {
      const Nanoseconds from = std::max(timing.start, step.begin);
      (compute->category == record::Category::codec ? path.codec : path.compute) += now - from;
      now = from;
    }
    entry = timing.previous;
  }
  if (path.total() != step.step_time())
    throw std::logic_error(
        fmt::format("step {}: its critical path adds up to {} ns, the step takes {} ns",
                    step.log.step, path.total().count, step.step_time().count));
  return path;
}

}  // namespace strait::sim
