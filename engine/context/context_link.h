// The other shards of a rank's context group: those that hold the rest of the same sequences, for the same layers. A rank gives its
// modules one, so that they neither know the grid of ranks nor how their messages and their work are recorded.
#pragma once

#include <functional>
#include <utility>

#include "engine/communicator.h"

namespace strait {

class ContextLink {
 public:
  virtual ~ContextLink() = default;
  virtual int shard() const = 0;   // this one, < shards()
  virtual int shards() const = 0;  // of the group
  // Buffered: returns at once. `shard` is another one.
  virtual void send(int shard, const Tag& tag, Message message) = 0;
  // Blocks until the message is there; messages of one shard and tag arrive in order. Throws CommunicatorAborted.
  virtual Message receive(int shard, const Tag& tag) = 0;
  virtual MessagePool& pool() = 0;
  // Does `work`, in which nothing is sent or received, and books it as the codec's, not the model's.
  virtual void codec(record::Phase /*phase*/, const std::function<void()>& work) { work(); }
};

// Every `stride`-th of `count` shards from `first` on, as a group of its own. The link that it is made of outlives it.
class ContextSubgroup final : public ContextLink {
 public:
  ContextSubgroup(ContextLink& all, int first, int stride, int count)
      : all_(all), first_(first), stride_(stride), count_(count) {}
  int shard() const override { return (all_.shard() - first_) / stride_; }
  int shards() const override { return count_; }
  void send(int shard, const Tag& tag, Message message) override {
    all_.send(first_ + shard * stride_, tag, std::move(message));
  }
  Message receive(int shard, const Tag& tag) override {
    return all_.receive(first_ + shard * stride_, tag);
  }
  MessagePool& pool() override { return all_.pool(); }
  void codec(record::Phase phase, const std::function<void()>& work) override {
    all_.codec(phase, work);
  }

 private:
  ContextLink& all_;
  int first_, stride_, count_;
};

}  // namespace strait
