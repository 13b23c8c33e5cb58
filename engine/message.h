// A message: the encoded payload that goes over a boundary, in one piece of device memory whose size is its size on the
// wire. Sections are views into it, without padding or headers: shapes and types are known to both ends from the scenario,
// and the tag (kind, microbatch) belongs to the transport.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "engine/message_ledger.h"
#include "kernels/backend.h"
#include "sim/record/log.h"

namespace strait {

// Device memory for messages, reused by size: a message is allocated by its sender and freed by its receiver, on two threads.
class MessagePool {
 public:
  // Memory of exactly `bytes` bytes that returns to the pool when released. `ops` allocates if none is free.
  std::shared_ptr<DeviceMemory> take(Backend& ops, size_t bytes);
  // The same pool, for the rank whose messages `ledger` counts.
  MessagePool of(std::shared_ptr<MessageLedger> ledger) const {
    MessagePool pool = *this;
    pool.ledger_ = std::move(ledger);
    return pool;
  }
  std::shared_ptr<void> hold(size_t bytes) const {
    return ledger_ ? ledger_->hold(bytes) : nullptr;
  }

 private:
  struct Shelf {
    std::mutex mutex;
    std::unordered_map<size_t, std::vector<std::unique_ptr<DeviceMemory>>> free;
  };
  std::shared_ptr<Shelf> shelf_ = std::make_shared<Shelf>();
  std::shared_ptr<MessageLedger> ledger_;
};

class Message {
 public:
  struct Section {
    DType dtype;
    Shape shape;
  };

  Message() = default;
  // Lays the sections out one behind the other, in order; put wider dtypes first so that every section is aligned (checked).
  Message(MessagePool& pool, Backend& ops, const std::vector<Section>& sections);

  Tensor section(size_t i) const { return views_.at(i); }
  size_t sections() const { return views_.size(); }
  // A message of some of the sections, in the given order, in the same memory: for a receiver that needs no more of a message that
  // goes to several. `dense`, `sync` and `version` are this one's.
  Message part(const std::vector<size_t>& sections) const;
  // Who holds the memory: nobody while it is on its way, then the receiver. Called by the communicator.
  void let_go() { holder_.reset(); }
  void hold(MessageLedger& ledger) { holder_ = ledger.hold(bytes_); }
  // The exact size on the wire.
  Bytes bytes() const { return {bytes_}; }

  // What method `none` would have sent at the run's precision instead: the numerator of the wire ratio. 0 for control traffic of
  // the codec's own; the message's own size where every method sends it.
  Bytes dense;
  // Synchronisation sections that ride along, in bytes (part of bytes()).
  Bytes sync;
  // Of the codec state that it was encoded with. Part of the tag, like the kind: the receiver refuses another (check_version()).
  uint64_t version = 0;
  // Set by the communicator when sent.
  uint64_t id = 0;

 private:
  std::shared_ptr<DeviceMemory> memory_;
  std::shared_ptr<void> holder_;
  std::vector<Tensor> views_;
  uint64_t bytes_ = 0;
};

}  // namespace strait
