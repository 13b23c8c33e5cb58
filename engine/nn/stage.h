// One pipeline stage: the layers of one rank, with the embedding on the first and the head on the last. The whole model is
// the stage that is both.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "engine/codec/method.h"
#include "engine/nn/block.h"
#include "engine/nn/head.h"
#include "engine/nn/module.h"

namespace strait {

struct StageOptions {
  ModelShape shape;
  LayerRange layers;
  bool first = true, last = true;
  // Layers [0, constrained_layers) of the model write what crosses a boundary; a method may constrain them
  // (specs/subspace_models.md 1.3: all but those of the last stage).
  int constrained_layers = 0;
  int frames = 1;                 // microbatches in flight at most
  int64_t head_chunk_rows = 256;  // logits held at once
  DType dtype = DType::f32;       // T, the compute type
  // Of the sequence; `link` where there are several, outlives the stage.
  int shards = 1;
  ContextOptions context = {};
  ContextLink* link = nullptr;
};

class Stage {
 public:
  // Declares its parameters; `context.parameters` is allocated afterwards, by the caller.
  Stage(const StageOptions& options, const Method& method, const MethodContext& context);

  // x (parts N, C) T in the frame's arena, parts = Method::boundary_parts(), undefined on the first stage. Returns the last layer's output
  // in the frame's arena, of as many parts, (N, C) on the last stage, which also writes loss_sum (1) f64.
  Tensor forward(Context& ctx, Frame& frame, Tensor x, Tensor loss_sum);
  // dy as the output, undefined on the last stage. Returns the gradient of x in scratch (the caller rewinds), undefined on the first stage.
  Tensor backward(Context& ctx, Frame& frame, Tensor dy);
  // Around an optimizer step (Projection::before_update).
  void before_update(Context& ctx);
  void after_update(Context& ctx, int64_t step);
  // The codecs of keys and values: before the first step with them, and at the end of each (Block).
  // begin(): of the layers (global indices) that are not in `begun`.
  void begin(Context& ctx, ControlLink& link, const std::set<int>& begun);
  // Of those layers: whether one wants calibration before begin(), and KeyValueCodec::calibrate() of all that do.
  bool wants_calibration(const std::set<int>& begun) const;
  void calibrate(bool on, const std::set<int>& begun);
  void end_synchronise(Context& ctx, ControlLink& link, const StepEnd& end);
  // What the codecs of keys and values tell of a frame between its forward and its backward: "layer3_key_captured", ...
  Diagnosis diagnose(Context& ctx, const Frame& frame);
  // (N, V) T of the last forward's output, for tests.
  void logits(Context& ctx, Frame& frame, Tensor logits, Tensor y) {
    head_->logits(ctx, frame, logits, y);
  }

 private:
  StageOptions options_;
  int parts_in_, parts_out_;  // of what the first layer reads and the last one writes
  std::unique_ptr<Embedding> embedding_;
  std::vector<std::unique_ptr<Block>> blocks_;
  std::unique_ptr<Head> head_;
};

}  // namespace strait
