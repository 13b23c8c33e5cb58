// One rank of the grid: the SPMD program that a machine of a real cluster would run, against a Communicator. It knows its place (a
// pipeline stage of one shard of one replica), its schedule and its data, and no time and no network.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "engine/checkpoint/snapshot.h"
#include "engine/communicator.h"
#include "engine/nn/stage.h"
#include "engine/repeated_work.h"
#include "engine/training.h"

namespace strait {

struct RankPlace;

// What one step leaves behind on one rank.
struct RankStep {
  record::RankLog log;
  double loss_sum = 0;  // last stage: sum over the step's tokens
  double grad_sum_squares =
      0;  // of this rank's gradients, before clipping; 0 but on the first of its copies
  std::vector<record::Diagnostic> diagnostics;
};

class Rank {
 public:
  // `backend`, `recorder`, `communicator`, `pool`, `data` outlive the rank. On the meta backend `plan` may be null (the arenas
  // then only count, and plan() says afterwards what was needed) and so may `data`; on the others neither.
  Rank(const TrainingConfig& config, int rank, Backend& backend, RankRecorder& recorder,
       Communicator& communicator, MessagePool& pool, const BatchSource* data,
       const RankPlan* plan);

  // Before the first step, after load(): what methods make of the parameters when training with them begins, where it was not loaded; and
  // of activations, which the first samples of this phase give in forward passes that nobody records.
  void begin();
  // Compares with the neighbours what both ends of each boundary must share. Throws std::runtime_error.
  void handshake();
  // `step` is 1-based; `ends_phase`: the last one with this configuration.
  RankStep train(int64_t step, bool ends_phase);
  double evaluate();  // last stage: sum of the losses of its tokens; others: 0
  ParameterList& parameters() { return parameters_; }
  // Parameters and moments to host memory, and back (checkpoint/snapshot.h); those of a model under another constraint are
  // converted (Method::from_plain). Between steps.
  std::vector<ParameterState> save();
  void load(const Snapshot& snapshot, bool moments);
  RankPlan plan() const;
  uint64_t parameters_hash();    // of every parameter's name and bytes
  uint64_t shared_state_hash();  // the same of the states that are equal on all copies of a rank

 private:
  bool first() const { return stage_index_ == 0; }
  bool last() const { return stage_index_ == config_.pipeline - 1; }
  void allocate(const RankPlan* plan);
  void place_state(Arena& region);
  enum class Samples { training, validation };
  void load_batch(Frame& frame, Samples samples, int64_t first_sequence);
  // Of this replica in step `step`: the first of its batch / replicas.
  int64_t first_sequence(int64_t step) const;
  RankPlace place();  // as its links see it
  // Of what meets a codec: Method::boundary_parts() tensors of (N, C).
  Shape boundary_shape(const Frame& frame) const;
  void forward(Frame& frame, Samples samples, int microbatch, int64_t first_sequence);
  void backward(Frame& frame, int microbatch);
  // Of the first microbatch of a step that is to be diagnosed: a boundary, and this stage's keys and values.
  void diagnose(Codec& codec, int boundary, Frame& frame, Tensor x, bool gradient);
  void diagnose_keys_and_values(const Frame& frame);
  bool calibrates();
  void calibrate();
  void find_begun(const Snapshot& snapshot);
  void begin_synchronise();
  void end_synchronise(int64_t step);
  void reduce_gradients();
  void update(int64_t step);
  double sum_of_losses(int microbatches);

  const TrainingConfig& config_;
  Grid grid_;
  int rank_, stage_index_, replica_;
  ModelShape shape_;  // sequences are as long as their shards together: with padding
  // Of this shard's tokens in the sequence, and of those of all shards (SequenceLayout::order()).
  std::vector<int32_t> token_positions_, token_order_;
  int64_t own_tokens_;  // of those of this shard, without padding
  Backend& ops_;
  RankRecorder& recorder_;
  Communicator& communicator_;
  MessagePool& pool_;
  const BatchSource* data_;

  std::unique_ptr<Method> method_;
  ParameterList parameters_;
  std::optional<Optimizer> optimizer_;
  Schedule schedule_;
  int64_t sequences_before_;
  LayerRange layers_;
  std::unique_ptr<ContextLink> shard_link_;  // to the other shards of this stage and replica
  std::unique_ptr<Stage> stage_;
  std::set<int> begun_;     // layers whose keys and values have the state of their method
  bool takes_ids_ = false;  // this stage reads the tokens from the data
  std::unique_ptr<Codec> before_,
      after_;  // of the boundaries towards the previous and the next stage
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
  Arena scratch_;
  Context context_;
  std::vector<Frame> frames_;
  std::map<std::pair<int, int>, RepeatedWork>
      forwards_;                           // by frame; of the last stage also by microbatch
  std::map<int, RepeatedWork> backwards_;  // by frame
  int64_t diagnosing_ = 0;  // the step whose first microbatch is to be diagnosed, 0: none
  std::vector<record::Diagnostic> diagnostics_;
  Tensor positions_, losses_;                        // losses_ (microbatches) f64
  Tensor grad_scale_, sum_squares_, total_squares_;  // of this rank and of all
};

}  // namespace strait
