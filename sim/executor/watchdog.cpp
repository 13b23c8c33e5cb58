// Describes a standstill in words (sim/executor/watchdog.h).
#include "sim/executor/watchdog.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

namespace strait::sim {
namespace {

constexpr size_t kMaxLines = 64;

const char* name(record::MessageKind kind) {
  switch (kind) {
    case record::MessageKind::forward:
      return "forward";
    case record::MessageKind::backward:
      return "backward";
    case record::MessageKind::sync:
      return "sync";
  }
  return "?";
}

std::string describe_message(const MessageTiming& message, MessageState state) {
  const std::string microbatch =
      message.microbatch < 0 ? "" : fmt::format(" of microbatch {}", message.microbatch);
  const std::string where =
      state == MessageState::unsent
          ? "not sent yet"
          : fmt::format("sent at {:.9f} s, not delivered", message.delivery.sent.seconds());
  return fmt::format("waits for the {} message{} from rank {} (number {}, {} bytes): {}",
                     name(message.kind), microbatch, message.from,
                     static_cast<uint32_t>(message.id), message.bytes().count, where);
}

std::string describe_queue(const Standing& rank, size_t queue) {
  const Queue& state = rank.state->queues[queue];
  const StepRun& step = *rank.step;
  const int32_t entry = step.queues[rank.rank][queue][state.position];
  std::string what;
  if (state.state == QueueState::at_receive) {
    const int32_t message = step.reference[rank.rank][entry];
    what = describe_message(step.timing.messages[message], step.message_state[message]);
  } else if (state.state == QueueState::at_wait) {
    what = fmt::format("waits for event {} of its own, not signalled yet",
                       std::get<record::Wait>(step.entry(rank.rank, entry).action).event);
  } else {
    what = "computes";
  }
  return fmt::format("  rank {}, step {}, queue {}, entry {}: {}\n", rank.rank,
                     step.timing.log.step, queue, entry, what);
}

// The first kMaxLines lines of a text, and how many there are beyond them.
std::string first_lines(const std::string& text) {
  size_t end = 0, lines = 0;
  for (; lines < kMaxLines && end < text.size(); ++lines)
    end = std::min(text.find('\n', end), text.size() - 1) + 1;
  const auto rest = std::count(text.begin() + static_cast<std::ptrdiff_t>(end), text.end(), '\n');
  return text.substr(0, end) + (rest > 0 ? fmt::format("and {} more\n", rest) : "");
}

double host_clock() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

}  // namespace

void Silence::note_progress(Nanoseconds now) {
  since_ = now;
  since_host_.reset();
}

std::optional<std::string> Silence::too_long(Nanoseconds now) {
  if (now - since_ > patience_.virtual_time)
    return fmt::format("no message was delivered for {:g} s of virtual time",
                       patience_.virtual_time.seconds());
  const double host = host_clock();
  if (!since_host_) since_host_ = host;
  if (host - *since_host_ > patience_.host_seconds)
    return fmt::format("no message was delivered for {:g} s of host time", patience_.host_seconds);
  return std::nullopt;
}

std::string describe_standstill(const std::string& why, Nanoseconds now,
                                const std::vector<Standing>& ranks, const std::string& in_flight) {
  std::string text =
      fmt::format("the simulation stands still at {:.9f} s: {}\n", now.seconds(), why);
  size_t lines = 0;
  for (const Standing& rank : ranks)
    for (size_t queue = 0; queue < rank.state->queues.size(); ++queue) {
      if (rank.state->queues[queue].state == QueueState::done) continue;
      if (++lines <= kMaxLines) text += describe_queue(rank, queue);
    }
  if (lines > kMaxLines) text += fmt::format("  and {} more\n", lines - kMaxLines);
  text += in_flight.empty() ? "in flight: nothing\n" : "in flight:\n" + first_lines(in_flight);
  if (text.back() == '\n') text.pop_back();
  return text;
}

}  // namespace strait::sim
