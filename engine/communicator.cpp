// What every communicator shares: each message goes into the rank's log, and the all-reduce is
// written on send and receive.
#include "engine/communicator.h"

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

// A message of one double. On the meta backend it has its 8 bytes and no content.
Message message_of(double value, MessagePool& pool, Backend& ops) {
  Message message(pool, ops, {{DType::f64, {1}}});
  if (message.section(0).data != nullptr) ops.upload(message.section(0), &value);
  return message;
}

// The double in `message`, or `otherwise` where messages have no content.
double value_of(const Message& message, double otherwise, Backend& ops) {
  double value = otherwise;
  if (message.section(0).data != nullptr) ops.download(&value, message.section(0));
  return value;
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
  do_send(to, tag, std::move(message));
}

Message Communicator::receive(int from, const Tag& tag) {
  STRAIT_CHECK(from >= 0 && from < size() && from != rank(),
               fmt::format("rank {} of {} receives from {}", rank(), size(), from));
  Message message = do_receive(from, tag);
  recorder_.received(message.id, from);
  return message;
}

double Communicator::all_reduce_sum(double value, int first, int count, int32_t purpose,
                                    MessagePool& pool, Backend& ops) {
  const int last = first + count - 1;
  STRAIT_CHECK(
      count >= 1 && first >= 0 && last < size() && rank() >= first && rank() <= last,
      fmt::format("rank {} of {} in a sum over ranks {} to {}", rank(), size(), first, last));
  const Tag tag{record::MessageKind::sync, -1, purpose};
  double total = value;
  if (rank() > first) {
    const Message below = receive(rank() - 1, tag);
    total = value_of(below, 0.0, ops) + value;
  }
  if (rank() < last) {
    send(rank() + 1, tag, message_of(total, pool, ops));
    const Message above = receive(rank() + 1, tag);
    total = value_of(above, value, ops);
  }
  if (rank() > first) send(rank() - 1, tag, message_of(total, pool, ops));
  return total;
}

}  // namespace strait
