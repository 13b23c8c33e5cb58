// What every communicator shares: each message goes into the rank's log, and the all-reduce is
// written on send and receive.
#include "engine/communicator.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace strait {
namespace {

const char* name_of(record::MessageKind kind) {
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

}  // namespace

std::string to_string(const Tag& tag) {
  std::string text = name_of(tag.kind);
  if (tag.microbatch >= 0) text += fmt::format(", microbatch {}", tag.microbatch);
  if (tag.purpose != 0) text += fmt::format(", purpose {}", tag.purpose);
  return text;
}

void Communicator::send(int to, const Tag& tag, Message message) {
  STRAIT_CHECK(to >= 0 && to < size() && to != rank(),
               fmt::format("rank {} of {} sends to {}", rank(), size(), to));
  STRAIT_CHECK(message.sync <= message.bytes(), "a message's sync bytes are part of its bytes");
  message.id = recorder_.next_id();
  recorder_.sent(message.id, to, tag.kind, tag.microbatch, message.bytes() - message.sync,
                 message.sync, message.dense);
  message.let_go();
  do_send(to, tag, std::move(message));
}

Message Communicator::receive(int from, const Tag& tag) {
  STRAIT_CHECK(from >= 0 && from < size() && from != rank(),
               fmt::format("rank {} of {} receives from {}", rank(), size(), from));
  Message message = do_receive(from, tag);
  message.hold(*recorder_.messages());
  recorder_.received(message.id, from);
  return message;
}

void Communicator::all_reduce_sum(Tensor value, int first, int count, int32_t purpose,
                                  MessagePool& pool, Backend& ops) {
  using Segment = RankRecorder::Segment;
  const int last = first + count - 1;
  STRAIT_CHECK(
      count >= 1 && first >= 0 && last < size() && rank() >= first && rank() <= last,
      fmt::format("rank {} of {} in a sum over ranks {} to {}", rank(), size(), first, last));
  const Tag tag{record::MessageKind::sync, -1, purpose};
  // y = a [+ b], as an entry of its own between the messages.
  const auto add = [&](const Tensor& y, const Tensor& a, const Tensor& b) {
    Segment segment(recorder_, record::Category::compute, record::Phase::reduce, -1);
    ops.add_statistics(y, a, b);
  };
  const auto pass_on = [&](int to) {
    Message message(pool, ops, {{DType::f64, value.shape}});
    add(message.section(0), value, {});
    message.dense = message.bytes();  // whatever the method, the sum takes these
    send(to, tag, std::move(message));
  };
  if (rank() > first) {
    const Message below = receive(rank() - 1, tag);
    add(value, below.section(0), value);
  }
  if (rank() < last) {
    pass_on(rank() + 1);
    const Message above = receive(rank() + 1, tag);
    add(value, above.section(0), {});
  }
  if (rank() > first) pass_on(rank() - 1);
}

void Communicator::all_reduce_ring(Tensor value, const std::vector<int>& group, int32_t purpose,
                                   bool every_method, MessagePool& pool, Backend& ops) {
  using Segment = RankRecorder::Segment;
  const auto count = static_cast<int64_t>(group.size());
  const auto self = std::find(group.begin(), group.end(), rank());
  STRAIT_CHECK(self != group.end(), fmt::format("rank {} in a sum that it is no part of", rank()));
  const int64_t me = self - group.begin(), n = value.elements();
  const int next = group[static_cast<size_t>((me + 1) % count)],
            previous = group[static_cast<size_t>((me + count - 1) % count)];
  const Tag tag{record::MessageKind::sync, -1, purpose};
  const Tensor flat = value.view({n});
  const auto part = [&](int64_t i) {
    i = (i % count + count) % count;
    const int64_t begin = i * n / count;
    return flat.slice(0, begin, (i + 1) * n / count - begin);
  };
  // Sums of squares are f64 on every backend, and only their own op takes them.
  const auto copy = [&](const Tensor& y, const Tensor& x) {
    x.dtype == DType::f64 ? ops.add_statistics(y, x, {}) : ops.cast(y, x);
  };
  const auto pass_on = [&](const Tensor& t) {
    if (t.elements() == 0) return;
    Message message(pool, ops, {{t.dtype, t.shape}});
    {
      Segment segment(recorder_, record::Category::compute, record::Phase::reduce, -1);
      copy(message.section(0), t);
    }
    if (every_method) message.dense = message.bytes();
    send(next, tag, std::move(message));
  };
  const auto take = [&](const Tensor& t, bool add) {
    if (t.elements() == 0) return;
    const Message message = receive(previous, tag);
    Segment segment(recorder_, record::Category::compute, record::Phase::reduce, -1);
    if (!add)
      copy(t, message.section(0));
    else if (t.dtype == DType::f64)
      ops.add_statistics(t, message.section(0), t);
    else
      ops.axpy(t, 1.0, message.section(0));
  };
  for (const bool reduce : {true, false}) {
    const int64_t first = reduce ? me : me + 1;
    for (int64_t hop = 0; hop + 1 < count; ++hop) {
      pass_on(part(first - hop));
      take(part(first - hop - 1), reduce);
    }
  }
}

}  // namespace strait
