#include "engine/nn/block.h"

#include <cmath>
#include <string>
#include <utility>

namespace strait {
namespace {

// Of one or two tensors of n rows one behind the other: the residual stream, and the one beside it, which is the same where it is alone.
Tensor stream_of(const Tensor& x, int parts, int64_t n) {
  return parts == 1 ? x : x.slice(0, 0, n);
}
Tensor branch_of(const Tensor& x, int parts, int64_t n) {
  return parts == 1 ? x : x.slice(0, n, n);
}

}  // namespace

Buffer* declare_rope_table(ParameterList& parameters, const ModelShape& shape) {
  const int half = shape.head_width / 2;
  auto init = [shape, half](std::vector<double>& v) {
    for (int64_t p = 0; p < shape.context; ++p) {
      double* row = v.data() + p * shape.head_width;
      for (int i = 0; i < half; ++i) {
        const double angle =
            static_cast<double>(p) * std::pow(shape.rope_theta, -2.0 * i / shape.head_width);
        row[i] = std::cos(angle);
        row[half + i] = std::sin(angle);
      }
    }
  };
  return parameters.declare_constant("rope.table", {shape.context, shape.head_width},
                                     statistics_of(parameters.dtype()), init);
}

Block::Block(const ModelShape& shape, int layer, uint64_t seed, int frames,
             ParameterList& parameters, BlockParts parts)
    : shape_(shape),
      out_(std::move(parts.attention_output)),
      down_(std::move(parts.ffn_down)),
      attention_(std::move(parts.attention)),
      link_(parts.link),
      inputs_(parts.in),
      outputs_(parts.out),
      saved_(static_cast<size_t>(frames)) {
  const std::string prefix = "model.layers." + std::to_string(layer) + ".";
  const int64_t qkv_width = int64_t{shape.heads + 2 * shape.kv_heads} * shape.head_width;
  auto matrix = [&](const std::string& name, int64_t rows) {
    return parameters.declare(prefix + name, {rows, shape.width}, ParameterGroup::matrix,
                              normal(seed, prefix + name, 0.02));
  };
  norm1_ = parameters.declare(prefix + "input_layernorm.weight", {shape.width},
                              ParameterGroup::vector, ones());
  qkv_ = matrix("self_attn.qkv_proj.weight", qkv_width);
  norm2_ = parameters.declare(prefix + "post_attention_layernorm.weight", {shape.width},
                              ParameterGroup::vector, ones());
  gate_up_ = matrix("mlp.gate_up_proj.weight", 2 * int64_t{shape.ffn_width});
  const int64_t q = int64_t{shape.heads} * shape.head_width,
                kv = int64_t{shape.kv_heads} * shape.head_width;
  qkv_->stacked = {q, kv, kv};
  gate_up_->stacked = {shape.ffn_width, shape.ffn_width};
  rope_ = declare_rope_table(parameters, shape);
}

Tensor Block::heads_of(const Tensor& qkv, const Frame& frame, int first, int count) const {
  const int64_t dh = shape_.head_width;
  return qkv.view({frame.sequences, frame.context, qkv.size(1)})
      .slice(2, first * dh, count * dh)
      .split_last(count, dh);
}

KeyValueSource Block::key_values(const Tensor& qkv, const Tensor& x, const Frame& frame) {
  const int h = shape_.heads, hkv = shape_.kv_heads;
  if (qkv.size(1) == qkv_->shape[0])
    return {heads_of(qkv, frame, h, hkv), heads_of(qkv, frame, h + hkv, hkv)};
  return {.x = x.view({frame.sequences, frame.context, x.size(1)}), .qkv = qkv_};
}

void Block::attention_forward(Context& ctx, Frame& frame, Saved& s) {
  const int h = shape_.heads, hkv = shape_.kv_heads;
  const DType t = s.x.dtype, st = statistics_of(t);
  const bool projects = attention_ != nullptr && attention_->codec().projects();
  const int64_t rows = projects ? int64_t{h} * shape_.head_width : qkv_->shape[0];
  s.qkv = frame.arena.take({frame.rows(), rows}, t);
  ctx.ops.matmul(s.qkv, s.h1, false, qkv_->value.slice(0, 0, rows), true, false);
  s.o = frame.arena.take({frame.rows(), int64_t{h} * shape_.head_width}, t);
  if (attention_ != nullptr) {
    const Tensor q = heads_of(s.qkv, frame, 0, h);
    ctx.ops.rope(q, rope_->value, frame.positions, false);
    attention_->forward(ctx, frame, *link_,
                        s.o.view({frame.sequences, frame.context, h, shape_.head_width}), q,
                        key_values(s.qkv, s.h1, frame));
    return;
  }
  ctx.ops.rope(heads_of(s.qkv, frame, 0, h + hkv), rope_->value, frame.positions, false);
  s.lse = frame.arena.take({frame.sequences, h, frame.context}, st);
  const AttentionMask mask{frame.positions, frame.positions, frame.documents, frame.documents,
                           true};
  ctx.ops.attention_forward(s.o.view({frame.sequences, frame.context, h, shape_.head_width}), s.lse,
                            heads_of(s.qkv, frame, 0, h), heads_of(s.qkv, frame, h, hkv),
                            heads_of(s.qkv, frame, h + hkv, hkv), mask,
                            1.0 / std::sqrt(static_cast<double>(shape_.head_width)));
}

void Block::forward(Context& ctx, Frame& frame, Tensor y, Tensor x) {
  Saved& s = saved_[static_cast<size_t>(frame.index)];
  const int64_t n = frame.rows(), c = shape_.width, f = shape_.ffn_width;
  const DType t = x.dtype, st = statistics_of(t);
  s = Saved{};
  const Tensor stream = stream_of(x, inputs_, n);
  s.x = branch_of(x, inputs_, n);
  s.h1 = frame.arena.take({n, c}, t);
  s.rstd1 = frame.arena.take({n}, st);
  ctx.ops.rmsnorm_forward(s.h1, s.rstd1, s.x, norm1_->value, shape_.norm_eps);
  attention_forward(ctx, frame, s);

  ArenaScope scope(ctx.scratch);
  Tensor delta = ctx.scratch.take({n, c}, t);
  out_->forward(ctx, delta, s.o);
  s.x1 = outputs_ == 1 ? frame.arena.take({n, c}, t) : stream_of(y, outputs_, n);
  s.h2 = frame.arena.take({n, c}, t);
  s.rstd2 = frame.arena.take({n}, st);
  ctx.ops.add_rmsnorm_forward(s.x1, s.h2, s.rstd2, stream, delta, norm2_->value, shape_.norm_eps);
  s.gate_up = frame.arena.take({n, 2 * f}, t);
  ctx.ops.matmul(s.gate_up, s.h2, false, gate_up_->value, true, false);
  s.s = frame.arena.take({n, f}, t);
  ctx.ops.swiglu_forward(s.s, s.gate_up);
  if (outputs_ == 2) return down_->forward(ctx, branch_of(y, outputs_, n), s.s);
  down_->forward(ctx, delta, s.s);
  ctx.ops.add(y, s.x1, delta);
}

void Block::attention_backward(Context& ctx, Frame& frame, Saved& s, Tensor dx, Tensor dout) {
  const int h = shape_.heads, hkv = shape_.kv_heads;
  const Shape by_head{frame.sequences, frame.context, h, shape_.head_width};
  if (attention_ != nullptr) {
    const Tensor dq = heads_of(s.dqkv, frame, 0, h);
    attention_->backward(ctx, frame, *link_, dq, key_values(s.dqkv, dx, frame), dout.view(by_head));
    ctx.ops.rope(dq, rope_->value, frame.positions, true);
    return;
  }
  Tensor delta = ctx.scratch.take({frame.sequences, h, frame.context}, statistics_of(dout.dtype));
  ctx.ops.attention_delta(delta, dout.view(by_head), s.o.view(by_head));
  const AttentionMask mask{frame.positions, frame.positions, frame.documents, frame.documents,
                           true};
  ctx.ops.attention_backward(heads_of(s.dqkv, frame, 0, h), heads_of(s.dqkv, frame, h, hkv),
                             heads_of(s.dqkv, frame, h + hkv, hkv), dout.view(by_head),
                             heads_of(s.qkv, frame, 0, h), heads_of(s.qkv, frame, h, hkv),
                             heads_of(s.qkv, frame, h + hkv, hkv), s.lse, delta, mask,
                             1.0 / std::sqrt(static_cast<double>(shape_.head_width)), false);
  ctx.ops.rope(heads_of(s.dqkv, frame, 0, h + hkv), rope_->value, frame.positions, true);
}

void Block::backward_input(Context& ctx, Frame& frame, Tensor dx, Tensor dy) {
  Saved& s = saved_[static_cast<size_t>(frame.index)];
  const int64_t n = frame.rows(), c = shape_.width, f = shape_.ffn_width;
  const DType t = dy.dtype;
  // y = x1 + Wd s
  Tensor ds = ctx.scratch.take({n, f}, t);
  s.d_down = down_->backward_input(ctx, ds, branch_of(dy, outputs_, n));
  s.dgate_up = ctx.scratch.take({n, 2 * f}, t);
  ctx.ops.swiglu_backward(s.dgate_up, ds, s.gate_up);
  Tensor dh = ctx.scratch.take({n, c}, t);
  ctx.ops.matmul(dh, s.dgate_up, false, gate_up_->value, false, false);
  Tensor dx1 = ctx.scratch.take({n, c}, t);
  ctx.ops.cast(dx1, stream_of(dy, outputs_, n));
  ctx.ops.rmsnorm_backward(dx1, norm2_->grad, dh, s.x1, norm2_->value, s.rstd2, true);
  // x1 = x + Wo attention(...)
  Tensor dout = ctx.scratch.take({n, int64_t{shape_.heads} * shape_.head_width}, t);
  s.d_out = out_->backward_input(ctx, dout, dx1);
  s.dqkv = ctx.scratch.take(s.qkv.shape, t);
  attention_backward(ctx, frame, s, dh, dout);
  const int64_t projected = s.qkv.size(1);  // the rest is in dh already
  ctx.ops.matmul(dh, s.dqkv, false, qkv_->value.slice(0, 0, projected), false,
                 projected < qkv_->shape[0]);
  ctx.ops.cast(stream_of(dx, inputs_, n), dx1);
  ctx.ops.rmsnorm_backward(branch_of(dx, inputs_, n), norm1_->grad, dh, s.x, norm1_->value, s.rstd1,
                           inputs_ == 1);
}

void Block::backward_weight(Context& ctx, Frame& frame) {
  Saved& s = saved_[static_cast<size_t>(frame.index)];
  down_->backward_weight(ctx, s.s, s.d_down);
  ctx.ops.matmul(gate_up_->grad, s.dgate_up, true, s.h2, false, true);
  out_->backward_weight(ctx, s.o, s.d_out);
  ctx.ops.matmul(qkv_->grad.slice(0, 0, s.dqkv.size(1)), s.dqkv, true, s.h1, false, true);
}

void Block::before_update(Context& ctx) {
  out_->before_update(ctx);
  down_->before_update(ctx);
}

void Block::after_update(Context& ctx, int64_t step) {
  out_->after_update(ctx, step);
  down_->after_update(ctx, step);
}

void Block::begin(Context& ctx, ControlLink& link) {
  if (attention_ != nullptr) attention_->codec().begin(ctx, link, *qkv_);
}

bool Block::wants_calibration() const {
  return attention_ != nullptr && attention_->codec().wants_calibration();
}

void Block::calibrate(bool on) { attention_->codec().calibrate(on); }

void Block::end_synchronise(Context& ctx, ControlLink& link, const StepEnd& end) {
  if (attention_ != nullptr) attention_->codec().end_synchronise(ctx, link, end);
}

Diagnosis Block::diagnose(Context& ctx, const Frame& frame) {
  if (attention_ == nullptr) return {};
  // The attention has left keys and values as they were before RoPE; a codec that projects has never made them.
  const Saved& s = saved_[static_cast<size_t>(frame.index)];
  const int h = shape_.heads, hkv = shape_.kv_heads;
  if (!attention_->codec().projects())
    return attention_->codec().diagnose(
        ctx, frame, {heads_of(s.qkv, frame, h, hkv), heads_of(s.qkv, frame, h + hkv, hkv)});
  ArenaScope scope(ctx.scratch);
  const int64_t width = int64_t{shape_.head_width}, rows = 2 * hkv * width;
  const Tensor kv = ctx.scratch.take({frame.rows(), rows}, s.h1.dtype);
  ctx.ops.matmul(kv, s.h1, false, qkv_->value.slice(0, h * width, rows), true, false);
  return attention_->codec().diagnose(ctx, frame,
                                      {heads_of(kv, frame, 0, hkv), heads_of(kv, frame, hkv, hkv)});
}

}  // namespace strait
