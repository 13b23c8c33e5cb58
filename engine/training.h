// What a training run is, for the engine: everything that determines the record, as plain data. Filled by the command line
// from a scenario, or by a test.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/codec/method.h"
#include "engine/context/context_attention.h"
#include "engine/grid.h"
#include "engine/nn/model_shape.h"
#include "engine/optimizer/learning_rate.h"
#include "engine/optimizer/optimizer.h"
#include "engine/schedule/schedule.h"

namespace strait {

enum class ClipScope { global, stage };

// How ranks that hold the same parameters stay together (specs/mixture_of_subspaces.md 8): they sum their gradients before every step, or each
// steps by its own and their parameters are averaged every `every` steps, all of them or those of attention alone.
enum class Synchronisation { gradients, parameters };
enum class SynchronisedPart { all, attention };
struct CopySynchronisation {
  Synchronisation mode = Synchronisation::gradients;
  int64_t every = 200;
  SynchronisedPart scope = SynchronisedPart::all;
};

struct TrainingConfig {
  ModelShape shape;
  MethodOptions method;
  DType dtype = DType::f32;  // T: f32, bf16; f64 on the reference backend
  uint64_t seed = 0;
  int pipeline = 1;
  int shards = 1;    // of a sequence (context parallelism)
  int replicas = 1;  // data parallelism
  CopySynchronisation synchronisation;
  ContextOptions context;             // how attention works on shards
  std::vector<int> layers_per_stage;  // empty: even
  std::string schedule = "1f1b";
  int batch = 8;                       // sequences a step, over all replicas
  int microbatches = 4;                // of a replica's share of the batch
  int64_t steps = 1;                   // of the whole training, all phases
  int64_t first_step = 1;              // of this phase of the training
  uint64_t tokens_before = 0;          // trained on in the phases before
  LearningRateSchedule learning_rate;  // of AdamW; the same shape for all
  OptimizerOptions optimizer;
  double clip_norm = 1.0;  // 0: off
  ClipScope clip_scope = ClipScope::global;
  int64_t evaluate_every =
      0;  // steps; 0: never. Also before the first and after the last step if > 0
  int evaluate_batches =
      8;  // of `batch / microbatches` sequences each, shared out among the replicas
  int64_t diagnose_every = 0;  // steps; 0: never
  std::optional<int>
      full_rank_layers;  // at the end, where the method constrains; unset: those of the last stage
  int64_t head_chunk_rows = 256;
  bool document_mask = false;  // tokens of different documents do not meet in attention

  Grid grid() const { return {pipeline, shards, replicas}; }
  // Of one microbatch: its sequences, and a shard's tokens of each.
  int64_t sequences() const { return int64_t{batch} / replicas / microbatches; }
  int64_t shard_context() const { return padded_context() / shards; }
  // Of a sequence on its shards: shape.context, and the padding behind it without which shards would not be equally long.
  int64_t padded_context() const {
    return shards > 1 ? strait::padded_context(context, shards, shape.context) : shape.context;
  }
  // Whether copies of a rank differ between two steps at which they are averaged.
  bool copies_differ() const {
    return grid().copies() > 1 && synchronisation.mode == Synchronisation::parameters;
  }
  // Whether attention asks for messages, or codes keys and values, on its way.
  bool exchanges() const { return shards > 1 || context.method != "none"; }
};

// Where tokens come from. Pure functions of the index, called from every rank's thread: must be thread-safe.
class BatchSource {
 public:
  virtual ~BatchSource() = default;
  // Sequence `index` (counted over the whole run) of T = context tokens; either pointer may be null.
  virtual void training(int64_t index, int32_t* ids, int32_t* targets) const = 0;
  virtual void validation(int64_t index, int32_t* ids, int32_t* targets) const = 0;
  // The token with which a document begins; unset where it is not known.
  virtual std::optional<int32_t> document_begin() const { return std::nullopt; }
};

// Throws std::invalid_argument with a text that names the field.
void validate(const TrainingConfig& config);

// The method, which knows the batches. Throws std::invalid_argument.
std::unique_ptr<Method> make_method(const TrainingConfig& config);
// How many layers, counted from the first, a method that constrains the model constrains (specs/subspace_models.md 1.3): at least those
// before the last stage, whose output crosses a boundary.
int constrained_layers(const TrainingConfig& config);

// The method in a few words: "subspace rank 16", "topk, 8 entries a token", "none, gradients cast".
std::string method_text(const TrainingConfig& config);
// The same of what keys and values become between the shards of a sequence: "none", "mos ranks 13/26" (keys' and values'), "quantize int8",
// "topk keep 0.1".
std::string context_text(const TrainingConfig& config);
// What a training is called by what it compresses: the one of the two that is not "none", or both: "mapl rank 64 + mos ranks 13/26", "context
// quantize int8" where the boundaries have a method of that name.
std::string compression_text(const TrainingConfig& config);

// What the method holds the parameters to.
ModelConstraint constraint_of(const TrainingConfig& config);

// What the parameters of the boundaries mean: the method's own words and the layers behind which the boundaries are; "" where it has
// no such parameters.
std::string boundaries_of(const TrainingConfig& config);

// Sizes of one rank's memory regions, from a dry run on the meta backend.
struct RankPlan {
  LayerRange layers;
  int frames = 0;
  int64_t parameters = 0;
  size_t persistent_bytes = 0, frame_bytes = 0, scratch_bytes = 0;  // frame_bytes: one frame
  size_t message_bytes = 0;  // held in messages at once (message_ledger.h)
};

}  // namespace strait
