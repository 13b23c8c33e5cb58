// What a rank knows of the other ranks: send, receive, and collectives written on them. The same rank program runs over
// threads in one process (in_process.h) or over sockets; the base class writes every message into the rank's log.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/message.h"
#include "engine/recorder.h"

namespace strait {

// Names a message between two ranks within a step. `purpose` tells control messages of one step apart (0 for activations).
struct Tag {
  record::MessageKind kind = record::MessageKind::forward;
  int32_t microbatch = -1;
  int32_t purpose = 0;
  bool operator==(const Tag&) const = default;
};
std::string to_string(const Tag& tag);

// Thrown in every rank when one of them has failed or everybody waits (the text then says who waits for what).
class CommunicatorAborted : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Communicator {
 public:
  explicit Communicator(RankRecorder& recorder) : recorder_(recorder) {}
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;

  // Buffered: returns at once. Messages of one (from, to, tag) arrive in order.
  void send(int to, const Tag& tag, Message message);
  // Blocks until the message is there. Throws CommunicatorAborted.
  Message receive(int from, const Tag& tag);

  // value (n) f64 becomes its sum over the ranks [first, first + count) in rank order, the same bits on each of them: a chain up to
  // the last rank and back, real messages of 8 n bytes, so that it works on every topology that joins neighbours. The host
  // does not wait for a device.
  void all_reduce_sum(Tensor value, int first, int count, int32_t purpose, MessagePool& pool,
                      Backend& ops);
  // value (n), any float type, becomes its sum over the ranks of `group`, this rank among them; all of them call it with the same list.
  // A ring: each rank sends 2 (G-1)/G of the tensor. A part is summed in ring order from its owner's successor on and then passed on,
  // so the bits are the same on every rank. The messages are control traffic; `every_method`: that every method sends (Message::dense).
  void all_reduce_ring(Tensor value, const std::vector<int>& group, int32_t purpose,
                       bool every_method, MessagePool& pool, Backend& ops);

 protected:
  virtual void do_send(int to, const Tag& tag, Message message) = 0;
  virtual Message do_receive(int from, const Tag& tag) = 0;

 private:
  RankRecorder& recorder_;
};

}  // namespace strait
