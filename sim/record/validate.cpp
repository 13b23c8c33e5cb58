// The rules of sim/record/validate.h.
#include "sim/record/validate.h"

#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>

#include "sim/record/format.h"

namespace strait::record {
namespace {

template <typename... Arguments>
[[noreturn]] void fail(fmt::format_string<Arguments...> text, Arguments&&... arguments) {
  throw std::invalid_argument(fmt::format(text, std::forward<Arguments>(arguments)...));
}

struct Message {
  uint64_t id;
  int32_t to;
  bool received = false;
};

uint32_t number_of(uint64_t id) { return static_cast<uint32_t>(id); }

// All messages that are sent in the step, by id. Fails for an id that another rank would use or
// that is used twice.
std::vector<Message> collect_messages(const StepLog& step) {
  std::vector<Message> messages;
  const int ranks = static_cast<int>(step.ranks.size());
  for (int rank = 0; rank < ranks; ++rank) {
    const auto& entries = step.ranks[rank].entries;
    for (size_t i = 0; i < entries.size(); ++i) {
      const Send* send = std::get_if<Send>(&entries[i].action);
      if (!send) continue;
      if (send->to < 0 || send->to >= ranks || send->to == rank)
        fail(
            "rank {}, entry {}: sends to rank {}; there are ranks 0 to {} and none sends to itself",
            rank, i, send->to, ranks - 1);
      if (send->id >> 32 != static_cast<uint64_t>(rank))
        fail(
            "rank {}, entry {}: message id {:#x} does not carry its sender's rank in the upper 32 "
            "bits",
            rank, i, send->id);
      messages.push_back({send->id, send->to});
    }
  }
  std::sort(messages.begin(), messages.end(),
            [](const Message& a, const Message& b) { return a.id < b.id; });
  for (size_t i = 1; i < messages.size(); ++i)
    if (messages[i].id == messages[i - 1].id)
      fail("rank {} sends message {} twice", messages[i].id >> 32, number_of(messages[i].id));
  return messages;
}

void match_receive(std::vector<Message>& messages, const Receive& receive, int rank, size_t entry) {
  const auto found = std::lower_bound(messages.begin(), messages.end(), receive.id,
                                      [](const Message& m, uint64_t id) { return m.id < id; });
  if (receive.id >> 32 != static_cast<uint64_t>(static_cast<int64_t>(receive.from)) ||
      found == messages.end() || found->id != receive.id || found->to != rank)
    fail(
        "rank {}, entry {}: receives message {} of rank {}, which that rank does not send to it in "
        "this step",
        rank, entry, number_of(receive.id), receive.from);
  if (found->received)
    fail("rank {}, entry {}: receives message {} of rank {} a second time", rank, entry,
         number_of(receive.id), receive.from);
  found->received = true;
}

void check_events(const RankLog& log, int rank) {
  std::vector<uint32_t> signalled;
  for (const Entry& entry : log.entries)
    if (const Signal* signal = std::get_if<Signal>(&entry.action))
      signalled.push_back(signal->event);
  std::sort(signalled.begin(), signalled.end());
  const auto twice = std::adjacent_find(signalled.begin(), signalled.end());
  if (twice != signalled.end()) fail("rank {} signals event {} twice", rank, *twice);
  for (size_t i = 0; i < log.entries.size(); ++i) {
    const Wait* wait = std::get_if<Wait>(&log.entries[i].action);
    if (wait && !std::binary_search(signalled.begin(), signalled.end(), wait->event))
      fail("rank {}, entry {}: waits for event {}, which is not signalled in this step", rank, i,
           wait->event);
  }
}

void check_compute(const Compute& compute, size_t op_names, int rank, size_t entry) {
  for (const OpWork& op : compute.ops)
    if (op.name >= op_names)
      fail("rank {}, entry {}: op name {} of {}", rank, entry, op.name, op_names);
}

void check_string(const std::string& text, const char* field) {
  if (text.size() > kMaxStringBytes)
    fail("{} has {} bytes; at most {} are allowed", field, text.size(), kMaxStringBytes);
}

}  // namespace

void validate_header(const RecordHeader& header) {
  const int64_t pipeline = header.pipeline, context = header.context, data = header.data;
  const int64_t most = static_cast<int64_t>(kMaxRanks);
  if (pipeline < 1 || context < 1 || data < 1 || pipeline > most || context > most || data > most ||
      pipeline * context * data > most)
    fail("a grid of {} x {} x {}; its sizes are at least 1 and it has at most {} ranks", pipeline,
         context, data, kMaxRanks);
  if (static_cast<int64_t>(header.ranks.size()) != pipeline * context * data)
    fail("{} ranks in a grid of {} x {} x {}", header.ranks.size(), pipeline, context, data);
  for (int64_t r = 0; r < static_cast<int64_t>(header.ranks.size()); ++r) {
    const RankInfo& info = header.ranks[r];
    if (info.stage != r % pipeline || info.shard != r / pipeline % context ||
        info.replica != r / pipeline / context)
      fail("rank {} is said to be stage {}, shard {}, replica {}", r, info.stage, info.shard,
           info.replica);
    check_string(info.layers, "layers");
  }
  if (header.op_names.size() > kMaxOpNames)
    fail("{} op names; at most {} are allowed", header.op_names.size(), kMaxOpNames);
  for (const std::string& name : header.op_names) check_string(name, "an op name");
  check_string(header.producer, "producer");
  check_string(header.backend, "backend");
  check_string(header.precision, "precision");
  check_string(header.record_hash, "record_hash");
}

void validate_structure(const StepLog& step, const RecordHeader& header) {
  if (step.ranks.size() != header.ranks.size())
    fail("a step of {} ranks in a record of {}", step.ranks.size(), header.ranks.size());
  std::vector<Message> messages = collect_messages(step);
  uint64_t entry_count = 0, op_count = 0;
  for (int rank = 0; rank < static_cast<int>(step.ranks.size()); ++rank) {
    const RankLog& log = step.ranks[rank];
    entry_count += log.entries.size();
    for (size_t i = 0; i < log.entries.size(); ++i) {
      if (const Compute* compute = std::get_if<Compute>(&log.entries[i].action)) {
        check_compute(*compute, header.op_names.size(), rank, i);
        op_count += compute->ops.size();
      } else if (const Receive* receive = std::get_if<Receive>(&log.entries[i].action)) {
        match_receive(messages, *receive, rank, i);
      }
    }
    check_events(log, rank);
  }
  for (const Message& message : messages)
    if (!message.received)
      fail("message {} of rank {} to rank {} is never received", number_of(message.id),
           message.id >> 32, message.to);
  if (entry_count > kMaxEntries || op_count > kMaxOps)
    fail("a step of {} entries and {} ops; at most {} and {} are allowed", entry_count, op_count,
         kMaxEntries, kMaxOps);
}

void validate_values(const StepLog& step) {
  for (size_t rank = 0; rank < step.ranks.size(); ++rank) {
    const auto& entries = step.ranks[rank].entries;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (const Compute* compute = std::get_if<Compute>(&entries[i].action)) {
        if (compute->measured.count < 0 || compute->measured.count > kMaxMeasured)
          fail("rank {}, entry {}: measured time {} ns; 0 to {} is allowed", rank, i,
               compute->measured.count, kMaxMeasured);
      } else if (const Send* send = std::get_if<Send>(&entries[i].action)) {
        const uint64_t payload = send->payload.count, sync = send->sync.count;
        if (payload > kMaxMessageBytes || sync > kMaxMessageBytes || payload + sync < 1 ||
            payload + sync > kMaxMessageBytes || send->dense.count > kMaxMessageBytes)
          fail("rank {}, entry {}: a message of {} + {} bytes (dense {}); 1 to {} are allowed",
               rank, i, payload, sync, send->dense.count, kMaxMessageBytes);
        if (send->kind == MessageKind::sync && send->dense.count != 0 &&
            send->dense.count != payload)
          fail("rank {}, entry {}: a sync message with dense size {}; it must be 0 or its payload",
               rank, i, send->dense.count);
      }
    }
  }
}

void FrameOrder::accept(const Frame& frame) {
  if (finished_) fail("a frame after the footer");
  if (std::holds_alternative<RecordHeader>(frame)) {
    if (has_header_) fail("a second header");
    has_header_ = true;
    return;
  }
  if (!has_header_) fail("the record does not begin with its header");
  if (const StepLog* step = std::get_if<StepLog>(&frame)) {
    if (step->step != last_step_ + 1) fail("step {} follows step {}", step->step, last_step_);
    last_step_ = step->step;
  } else if (const Evaluation* evaluation = std::get_if<Evaluation>(&frame)) {
    if (evaluation->step < 0 || evaluation->step > last_step_)
      fail("an evaluation after step {}, while the record is at step {}", evaluation->step,
           last_step_);
  } else if (const Diagnostic* diagnostic = std::get_if<Diagnostic>(&frame)) {
    if (diagnostic->step < 0 || diagnostic->step > last_step_)
      fail("a diagnostic of step {}, while the record is at step {}", diagnostic->step, last_step_);
  } else if (const RecordFooter* footer = std::get_if<RecordFooter>(&frame)) {
    if (footer->steps != last_step_)
      fail("the footer counts {} steps, the record holds {}", footer->steps, last_step_);
    finished_ = true;
  }
}

}  // namespace strait::record
