// Turns a step's log into indices (sim/executor/step_run.h).
#include "sim/executor/step_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <unordered_map>
#include <utility>

namespace strait::sim {
namespace {

using record::Receive;
using record::Send;
using record::Signal;
using record::Wait;

// The messages of a step in the order of its logs; `by_id` leads from an id to its place.
std::vector<MessageTiming> list_messages(StepRun& run,
                                         std::unordered_map<uint64_t, int32_t>& by_id) {
  std::vector<MessageTiming> messages;
  for (size_t rank = 0; rank < run.timing.log.ranks.size(); ++rank) {
    const auto& entries = run.timing.log.ranks[rank].entries;
    for (size_t i = 0; i < entries.size(); ++i) {
      const Send* send = std::get_if<Send>(&entries[i].action);
      if (!send) continue;
      MessageTiming message{.id = send->id,
                            .from = static_cast<int32_t>(rank),
                            .to = send->to,
                            .kind = send->kind,
                            .microbatch = send->microbatch,
                            .payload = send->payload,
                            .sync = send->sync,
                            .dense = send->dense};
      message.send_entry = static_cast<int32_t>(i);
      run.reference[rank][i] = static_cast<int32_t>(messages.size());
      by_id.emplace(send->id, static_cast<int32_t>(messages.size()));
      messages.push_back(message);
    }
  }
  return messages;
}

void match_receives(StepRun& run, const std::unordered_map<uint64_t, int32_t>& by_id) {
  for (size_t rank = 0; rank < run.timing.log.ranks.size(); ++rank) {
    const auto& entries = run.timing.log.ranks[rank].entries;
    for (size_t i = 0; i < entries.size(); ++i) {
      const Receive* receive = std::get_if<Receive>(&entries[i].action);
      if (!receive) continue;
      const auto found = by_id.find(receive->id);
      if (found == by_id.end() ||
          run.timing.messages[found->second].to != static_cast<int32_t>(rank))
        throw std::invalid_argument(
            fmt::format("step {}, rank {}, entry {}: no such message of rank {} is sent to it",
                        run.timing.log.step, rank, i, receive->from));
      run.reference[rank][i] = found->second;
      run.timing.messages[found->second].receive_entry = static_cast<int32_t>(i);
    }
  }
}

void match_events(StepRun& run, size_t rank) {
  std::unordered_map<uint32_t, int32_t> signals;
  const auto& entries = run.timing.log.ranks[rank].entries;
  for (size_t i = 0; i < entries.size(); ++i)
    if (const Signal* signal = std::get_if<Signal>(&entries[i].action))
      signals.emplace(signal->event, static_cast<int32_t>(i));
  for (size_t i = 0; i < entries.size(); ++i) {
    const Wait* wait = std::get_if<Wait>(&entries[i].action);
    if (!wait) continue;
    const auto found = signals.find(wait->event);
    if (found == signals.end())
      throw std::invalid_argument(
          fmt::format("step {}, rank {}, entry {}: event {} is never signalled",
                      run.timing.log.step, rank, i, wait->event));
    run.reference[rank][i] = found->second;
  }
}

}  // namespace

StepRun::StepRun(record::StepLog log) {
  timing.log = std::move(log);
  const size_t ranks = timing.log.ranks.size();
  timing.ranks.resize(ranks);
  timing.entries.resize(ranks);
  reference.resize(ranks);
  queues.resize(ranks);
  ranks_left = static_cast<int>(ranks);
  for (size_t rank = 0; rank < ranks; ++rank) {
    const auto& entries = timing.log.ranks[rank].entries;
    timing.entries[rank].resize(entries.size(), kNotReached);
    reference[rank].assign(entries.size(), -1);
    queues[rank].resize(1);
    for (size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].queue >= queues[rank].size())
        queues[rank].resize(entries[i].queue + size_t{1});
      queues[rank][entries[i].queue].push_back(static_cast<int32_t>(i));
    }
    match_events(*this, rank);
  }
  std::unordered_map<uint64_t, int32_t> by_id;
  timing.messages = list_messages(*this, by_id);
  match_receives(*this, by_id);
  message_state.assign(timing.messages.size(), MessageState::unsent);
  for (const MessageTiming& message : timing.messages) {
    if (message.receive_entry < 0)
      throw std::invalid_argument(
          fmt::format("step {}: a message from rank {} to rank {} is never received",
                      timing.log.step, message.from, message.to));
    timing.ranks[message.from].bytes_sent += message.bytes();
    timing.ranks[message.to].bytes_received += message.bytes();
  }
}

void check_delivery(const Delivery& d, const MessageTiming& message, Nanoseconds now) {
  const Nanoseconds parts =
      d.host + d.serialisation + d.propagation + d.queue + d.recovery + d.window;
  const Nanoseconds least =
      std::min({d.host, d.serialisation, d.propagation, d.queue, d.recovery, d.window});
  if (d.sent != message.delivery.sent || d.delivered != now || parts != d.delivered - d.sent ||
      least.count < 0)
    throw std::logic_error(
        fmt::format("the network took {} bytes from rank {} to rank {}, sent at {} ns, delivered "
                    "at {} ns, apart into parts of {} ns",
                    message.bytes().count, message.from, message.to, d.sent.count,
                    d.delivered.count, parts.count));
}

}  // namespace strait::sim
