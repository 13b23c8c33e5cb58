#include "engine/nn/stage.h"

#include <string>
#include <utility>

namespace strait {

Stage::Stage(const StageOptions& o, const Method& method, const MethodContext& c)
    : options_(o),
      parts_in_(o.first ? 1 : method.boundary_parts()),
      parts_out_(o.last ? 1 : method.boundary_parts()) {
  if (o.first) embedding_ = method.make_embedding(c);
  for (int layer = o.layers.first; layer < o.layers.first + o.layers.count; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".";
    const bool crosses = layer < o.constrained_layers;
    BlockParts parts;
    parts.attention_output = method.make_projection(c, prefix + "self_attn.o_proj", layer,
                                                    o.shape.heads * o.shape.head_width, crosses);
    parts.ffn_down =
        method.make_projection(c, prefix + "mlp.down_proj", layer, o.shape.ffn_width, crosses);
    if (o.shards > 1 || o.context.method != "none")
      parts.attention = make_context_attention(
          o.context, {o.shape, o.shards, layer, o.frames, c.parameters}, nullptr);
    parts.link = o.link;
    if (layer == o.layers.first) parts.in = parts_in_;
    if (layer + 1 == o.layers.first + o.layers.count) parts.out = parts_out_;
    blocks_.push_back(
        std::make_unique<Block>(o.shape, layer, c.seed, o.frames, c.parameters, std::move(parts)));
  }
  if (o.last)
    head_ = std::make_unique<Head>(o.shape, c.seed, o.frames, o.head_chunk_rows, c.parameters);
}

Tensor Stage::forward(Context& ctx, Frame& frame, Tensor x, Tensor loss_sum) {
  const Shape rows{frame.rows(), options_.shape.width};
  if (options_.first) {
    x = frame.arena.take(rows, options_.dtype);
    embedding_->forward(ctx, frame, x);
  }
  for (auto& block : blocks_) {
    const int parts = block == blocks_.back() ? parts_out_ : 1;
    Tensor y = frame.arena.take({parts * rows[0], rows[1]}, options_.dtype);
    block->forward(ctx, frame, y, x);
    x = y;
  }
  if (options_.last) head_->forward(ctx, frame, loss_sum, x);
  return x;
}

Tensor Stage::backward(Context& ctx, Frame& frame, Tensor dy) {
  const int64_t n = frame.rows();
  const Shape widest{parts_in_ * n, options_.shape.width};
  Tensor a = ctx.scratch.take(widest, options_.dtype), b = ctx.scratch.take(widest, options_.dtype);
  if (options_.last) {
    dy = a.slice(0, 0, n);
    head_->backward(ctx, frame, dy);
    std::swap(a, b);
  }
  for (auto block = blocks_.rbegin(); block != blocks_.rend(); ++block) {
    ArenaScope scope(ctx.scratch);
    Tensor dx = *block == blocks_.front() ? a : a.slice(0, 0, n);
    (*block)->backward_input(ctx, frame, dx, dy);
    (*block)->backward_weight(ctx, frame);
    dy = dx;
    std::swap(a, b);
  }
  if (!options_.first) return dy;
  embedding_->backward(ctx, frame, dy);
  return {};
}

void Stage::before_update(Context& ctx) {
  if (embedding_) embedding_->before_update(ctx);
  for (auto& block : blocks_) block->before_update(ctx);
}

void Stage::after_update(Context& ctx, int64_t step) {
  if (embedding_) embedding_->after_update(ctx, step);
  for (auto& block : blocks_) block->after_update(ctx, step);
}

void Stage::begin(Context& ctx, ControlLink& link, const std::set<int>& begun) {
  int layer = options_.layers.first;
  for (auto& block : blocks_)
    if (!begun.contains(layer++)) block->begin(ctx, link);
}

bool Stage::wants_calibration(const std::set<int>& begun) const {
  int layer = options_.layers.first;
  for (const auto& block : blocks_)
    if (!begun.contains(layer++) && block->wants_calibration()) return true;
  return false;
}

void Stage::calibrate(bool on, const std::set<int>& begun) {
  int layer = options_.layers.first;
  for (auto& block : blocks_)
    if (!begun.contains(layer++) && block->wants_calibration()) block->calibrate(on);
}

void Stage::end_synchronise(Context& ctx, ControlLink& link, const StepEnd& end) {
  for (auto& block : blocks_) block->end_synchronise(ctx, link, end);
}

Diagnosis Stage::diagnose(Context& ctx, const Frame& frame) {
  Diagnosis all;
  int layer = options_.layers.first;
  for (auto& block : blocks_) {
    for (const auto& [name, value] : block->diagnose(ctx, frame))
      all.emplace_back("layer" + std::to_string(layer) + "_" + name, value);
    ++layer;
  }
  return all;
}

}  // namespace strait
