// The end of a step for the codecs of a Pipeline: what ranks tell each other, through queues in one thread.
#pragma once

#include <deque>
#include <map>

#include "tests/engine/pipeline.h"

namespace strait::testing {

// Both ends of one boundary.
class ControlLoop {
 public:
  class End final : public ControlLink {
   public:
    End(std::map<int32_t, std::deque<Message>>& out, std::map<int32_t, std::deque<Message>>& in)
        : out_(out), in_(in) {}
    void send(int32_t purpose, Message message) override {
      bytes += message.bytes().count;
      out_[purpose].push_back(std::move(message));
    }
    Message receive(int32_t purpose) override {
      Message m = std::move(in_[purpose].at(0));
      in_[purpose].pop_front();
      return m;
    }
    void sum_over_copies(Tensor) override {}
    void sum_gradient(Tensor) override {}
    void from_first_copy(Tensor, const std::function<void()>& make) override { make(); }
    void compute(const std::function<void()>& work) override { work(); }
    uint64_t bytes = 0;

   private:
    std::map<int32_t, std::deque<Message>>&out_, &in_;
  };

 private:
  std::map<int32_t, std::deque<Message>> forward_, backward_;

 public:
  End sender{forward_, backward_}, receiver{backward_, forward_};
};

// Synchronises every boundary, senders first. Returns the bytes that it took.
inline uint64_t synchronise(Pipeline& p, int64_t step, double learning_rate) {
  uint64_t bytes = 0;
  Context ctx = p.context();
  for (int b = 0; b + 1 < p.config().pipeline; ++b) {
    ControlLoop loop;
    p.codec_after(b).begin_synchronise(ctx, loop.sender);
    p.codec_before(b + 1).begin_synchronise(ctx, loop.receiver);
    p.codec_after(b).end_synchronise(ctx, loop.sender, {step, learning_rate});
    p.codec_before(b + 1).end_synchronise(ctx, loop.receiver, {step, learning_rate});
    bytes += loop.sender.bytes + loop.receiver.bytes;
  }
  return bytes;
}

inline Tensor buffer(ParameterList& list, const std::string& name) {
  for (Buffer& b : list.buffers())
    if (b.name == name) return b.value;
  throw std::out_of_range(name);
}

}  // namespace strait::testing
