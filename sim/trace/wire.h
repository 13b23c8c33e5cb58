// Wire ratios: bytes that method `none` would have sent at the run's precision over bytes that were
// sent (design, section 2). Messages are sorted by where they cross the grid; headers, ids and
// scales of ours are in the sizes, TCP/IP headers are not.
#pragma once

#include <cstdint>
#include <vector>

#include "sim/executor/timing.h"
#include "sim/record/log.h"

namespace strait::sim {

// One kind of traffic over one crossing. `bytes` excludes the synchronisation sections, which are
// in `sync`.
struct Traffic {
  uint64_t messages = 0;
  Bytes dense, bytes, sync;
  Nanoseconds transfer;  // sum of delivered - sent

  void add(const MessageTiming& message);
  Traffic& operator+=(const Traffic& other);
  Bytes sent() const { return bytes + sync; }
};

// The three kinds over one crossing.
struct Crossing {
  Traffic forward, backward, synchronisation;

  void add(const MessageTiming& message);
  Traffic total() const;
};

class WireBook {
 public:
  explicit WireBook(const record::RecordHeader& header);
  void add(const StepTiming& step);

  // Between stage b and b+1 of the same shard and replica, all shards and replicas together.
  const std::vector<Crossing>& boundaries() const { return boundaries_; }
  const Crossing& pipeline() const {
    return pipeline_;
  }  // all boundaries, and traffic between distant stages
  const Crossing& context() const { return context_; }  // between shards of a stage
  const Crossing& data() const { return data_; }        // between replicas
  const Crossing& all() const { return all_; }

 private:
  std::vector<record::RankInfo> ranks_;
  std::vector<Crossing> boundaries_;
  Crossing pipeline_, context_, data_, all_;
};

}  // namespace strait::sim
