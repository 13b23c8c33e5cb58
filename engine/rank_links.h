// What attention and codecs of one rank see of the other ranks: the shards of its sequence, and the other end of a boundary. Private to rank.cpp.
#pragma once

#include <vector>

#include "engine/codec/method.h"
#include "engine/communicator.h"
#include "engine/context/context_link.h"
#include "engine/grid.h"
#include "engine/training.h"

namespace strait {

// Purposes of a rank's control messages: each has messages of its own. Those of codecs count from kCodec.
inline constexpr int32_t kClipNorm = 1, kHandshake = 2, kGradients = 3, kCopies = 4,
                         kParameters = 5, kCalibration = 6, kFirstCopy = 7, kCodec = 16;

// Of one rank; all outlive the links.
struct RankPlace {
  const TrainingConfig& config;
  const Grid& grid;
  int rank;
  RankRecorder& recorder;
  Communicator& communicator;
  MessagePool& pool;
  Backend& ops;
};

// Attention talks to the other shards in the middle of what a stage computes.
class ShardLink final : public ContextLink {
 public:
  explicit ShardLink(const RankPlace& place) : at_(place) {}
  int shard() const override { return at_.grid.shard(at_.rank); }
  int shards() const override { return at_.grid.context; }
  void send(int shard, const Tag& tag, Message message) override;
  Message receive(int shard, const Tag& tag) override;
  MessagePool& pool() override { return at_.pool; }
  void codec(record::Phase phase, const std::function<void()>& work) override;

 private:
  int rank_of(int shard) const;

  RankPlace at_;
};

// The control traffic of one boundary with the rank `other`; with the rank itself where there is no other end, for sums over copies.
class BoundaryLink final : public ControlLink {
 public:
  BoundaryLink(const RankPlace& place, int other) : at_(place), other_(other) {}
  void send(int32_t purpose, Message message) override;
  Message receive(int32_t purpose) override;
  void compute(const std::function<void()>& work) override;
  void sum_over_copies(Tensor value) override;
  void sum_gradient(Tensor value) override;
  void from_first_copy(Tensor value, const std::function<void()>& make) override;

 private:
  RankPlace at_;
  int other_;
};

// Copies of a rank (Grid::copies_of) have seen other tokens and are to take the same step: their gradients, `flat` (all elements) f32 or f64,
// become their sum. Nothing happens with one copy, or where each takes a step of its own.
void sum_gradients(const RankPlace& place, Tensor flat);
// Or each takes its own, and after some steps (CopySynchronisation) parameters become their mean, the same bits on all copies; after the last
// step of a phase in any case, so that what is kept of it is the mean. `step`: 1-based.
void average_parameters(const RankPlace& place, ParameterList& parameters, int64_t step,
                        bool ends_phase);

}  // namespace strait
