// The grid of ranks: pipeline stages x context shards x data replicas (design, section 2; record/log.h numbers them the same way).
#pragma once

#include <vector>

namespace strait {

struct Grid {
  int pipeline = 1;  // stages
  int context = 1;   // shards of a sequence
  int data = 1;      // replicas

  int ranks() const { return pipeline * context * data; }
  // Ranks that hold the same parameters: all shards of all replicas of one stage.
  int copies() const { return context * data; }
  int stage(int rank) const { return rank % pipeline; }
  int shard(int rank) const { return rank / pipeline % context; }
  int replica(int rank) const { return rank / pipeline / context; }
  int rank(int stage, int shard, int replica) const {
    return (replica * context + shard) * pipeline + stage;
  }
  // Which of its copies a rank is.
  int copy(int rank) const { return rank / pipeline; }
  // Whether `rank` is the first of its copies, which speaks for all of them.
  bool first_copy(int rank) const { return rank < pipeline; }
  // The copies of a stage in ascending order.
  std::vector<int> copies_of(int stage) const {
    std::vector<int> ranks;
    for (int copy = 0; copy < copies(); ++copy) ranks.push_back(copy * pipeline + stage);
    return ranks;
  }
};

}  // namespace strait
