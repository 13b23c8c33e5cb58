// Builds timeline.json (sim/trace/timeline.h).
#include "sim/trace/timeline.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/trace/names.h"
#include "sim/trace/output_file.h"

namespace strait::sim {
namespace {

constexpr int kRanks = 1, kLinks = 2;

std::string microseconds(Nanoseconds time) {
  return fmt::format("{}.{:03}", time.count / 1000, time.count % 1000);
}

std::string with_microbatch(std::string_view name, int32_t microbatch) {
  return microbatch < 0 ? std::string(name) : fmt::format("{} {}", name, microbatch);
}

std::string track_name(int pid, int tid, const std::string& name, const char* what) {
  return fmt::format(R"({{"ph":"M","pid":{},"tid":{},"name":"{}","args":{{"name":"{}"}}}})", pid,
                     tid, what, name);
}

std::string message_arguments(const StepTiming& step, const MessageTiming& m) {
  const Delivery& d = m.delivery;
  return fmt::format(
      R"("step":{},"bytes":{},"dense_bytes":{},"sent_s":{},"delivered_s":{},"host_us":{},"queue_us":{},"window_us":{},)"
      R"("recovery_us":{},"serialisation_us":{},"propagation_us":{},"bound_by":"{}")",
      step.log.step, m.bytes().count, m.dense.count, seconds_text(d.sent),
      seconds_text(d.delivered), microseconds(d.host), microseconds(d.queue),
      microseconds(d.window), microseconds(d.recovery), microseconds(d.serialisation),
      microseconds(d.propagation), bound_by(d));
}

}  // namespace

void Timeline::add(const StepTiming& step) {
  add_computes(step);
  std::vector<const MessageTiming*> by_delivery;
  for (const MessageTiming& message : step.messages) by_delivery.push_back(&message);
  std::stable_sort(by_delivery.begin(), by_delivery.end(),
                   [](const MessageTiming* a, const MessageTiming* b) {
                     return a->delivery.delivered < b->delivery.delivered;
                   });
  for (const MessageTiming* message : by_delivery) add_message(step, *message);
}

void Timeline::add_computes(const StepTiming& step) {
  for (int rank = 0; rank < ranks_; ++rank)
    for (size_t i = 0; i < step.entries[rank].size(); ++i) {
      const record::Entry& entry = step.log.ranks[rank].entries[i];
      const auto* compute = std::get_if<record::Compute>(&entry.action);
      const EntryTiming& timing = step.entries[rank][i];
      if (!compute || timing.end == timing.start) continue;
      slices_.push_back({kRanks, rank, timing.start, timing.end - timing.start,
                         with_microbatch(name_of(compute->phase), compute->microbatch),
                         std::string(name_of(compute->category)),
                         fmt::format(R"("step":{},"queue":{})", step.log.step, entry.queue)});
    }
}

void Timeline::add_message(const StepTiming& step, const MessageTiming& message) {
  const std::string name = with_microbatch(name_of(message.kind), message.microbatch);
  const int direction = message.from * ranks_ + message.to;
  Nanoseconds& last = last_delivered_[direction];
  const Nanoseconds start =
      std::min(std::max(last, message.delivery.sent), message.delivery.delivered);
  last = std::max(last, message.delivery.delivered);
  directions_.push_back(direction);
  slices_.push_back({kLinks, direction, start, message.delivery.delivered - start, name, "message",
                     message_arguments(step, message)});

  constexpr Nanoseconds kInstant{1};
  const std::string arguments =
      fmt::format(R"("step":{},"bytes":{})", step.log.step, message.bytes().count);
  slices_.push_back({kRanks, message.from, message.delivery.sent, kInstant,
                     fmt::format("send {} to {}", name, message.to), "message", arguments});
  slices_.push_back({kRanks, message.to, message.received, kInstant,
                     fmt::format("receive {} from {}", name, message.from), "message", arguments});
  arrows_.push_back({next_arrow_, message.from, true, message.delivery.sent, name});
  arrows_.push_back({next_arrow_, message.to, false, message.received, name});
  ++next_arrow_;
}

std::string Timeline::json() const {
  std::vector<std::string> events;
  events.push_back(track_name(kRanks, 0, "ranks", "process_name"));
  events.push_back(track_name(kLinks, 0, "links", "process_name"));
  for (int rank = 0; rank < ranks_; ++rank)
    events.push_back(track_name(kRanks, rank, fmt::format("rank {}", rank), "thread_name"));
  std::vector<int> directions = directions_;
  std::sort(directions.begin(), directions.end());
  directions.erase(std::unique(directions.begin(), directions.end()), directions.end());
  for (const int direction : directions)
    events.push_back(track_name(kLinks, direction,
                                fmt::format("{} to {}", direction / ranks_, direction % ranks_),
                                "thread_name"));

  // Viewers nest slices in file order: of those that start together the longest must come first,
  // and an arrow after the slice that it is tied to.
  std::vector<const Slice*> slices;
  for (const Slice& slice : slices_) slices.push_back(&slice);
  std::stable_sort(slices.begin(), slices.end(), [](const Slice* a, const Slice* b) {
    return a->start != b->start ? a->start < b->start : a->length > b->length;
  });
  for (const Slice* s : slices)
    events.push_back(fmt::format(
        R"({{"ph":"X","pid":{},"tid":{},"ts":{},"dur":{},"name":"{}","cat":"{}","args":{{{}}}}})",
        s->pid, s->tid, microseconds(s->start), microseconds(s->length), s->name, s->category,
        s->arguments));
  for (const Arrow& a : arrows_)
    events.push_back(fmt::format(
        R"({{"ph":"{}","pid":{},"tid":{},"ts":{},"id":{},"name":"{}","cat":"message"{}}})",
        a.begins ? "s" : "f", kRanks, a.tid, microseconds(a.at), a.id, a.name,
        a.begins ? "" : R"(,"bp":"e")"));
  return fmt::format("{{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{}\n]}}\n",
                     fmt::join(events, ",\n"));
}

}  // namespace strait::sim
