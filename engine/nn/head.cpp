#include "engine/nn/head.h"

#include <algorithm>

namespace strait {

Head::Head(const ModelShape& shape, uint64_t seed, int frames, int64_t chunk_rows,
           ParameterList& parameters)
    : shape_(shape), chunk_rows_(chunk_rows), saved_(static_cast<size_t>(frames)) {
  norm_ = parameters.declare("model.norm.weight", {shape.width}, ParameterGroup::vector, ones());
  weight_ = parameters.declare("lm_head.weight", {shape.vocabulary, shape.width},
                               ParameterGroup::head, normal(seed, "lm_head.weight", 0.02));
}

void Head::forward(Context& ctx, Frame& frame, Tensor loss_sum, Tensor x) {
  Saved& s = saved_[static_cast<size_t>(frame.index)];
  const int64_t n = frame.rows(), c = shape_.width;
  s.x = x;
  s.rstd = frame.arena.take({n}, statistics_of(x.dtype));
  if (frame.training) s.dh = frame.arena.take({n, c}, x.dtype);

  ArenaScope scope(ctx.scratch);
  Tensor h = ctx.scratch.take({n, c}, x.dtype);
  ctx.ops.rmsnorm_forward(h, s.rstd, x, norm_->value, shape_.norm_eps);
  Tensor loss = ctx.scratch.take({n}, statistics_of(x.dtype));
  for (int64_t begin = 0; begin < n; begin += chunk_rows_) {
    const int64_t rows = std::min(chunk_rows_, n - begin);
    ArenaScope chunk(ctx.scratch);
    Tensor logits = ctx.scratch.take({rows, shape_.vocabulary}, x.dtype);
    const Tensor hc = h.slice(0, begin, rows);
    ctx.ops.matmul(logits, hc, false, weight_->value, true, false);
    ctx.ops.cross_entropy(loss.slice(0, begin, rows), logits, frame.targets.slice(0, begin, rows),
                          frame.loss_scale, frame.training);
    if (frame.training) {
      ctx.ops.matmul(s.dh.slice(0, begin, rows), logits, false, weight_->value, false, false);
      ctx.ops.matmul(weight_->grad, logits, true, hc, false, true);
    }
  }
  ctx.ops.sum(loss_sum, loss);
}

void Head::logits(Context& ctx, Frame& frame, Tensor logits, Tensor x) {
  ArenaScope scope(ctx.scratch);
  Tensor h = ctx.scratch.take(x.shape, x.dtype);
  Tensor rstd = ctx.scratch.take({frame.rows()}, statistics_of(x.dtype));
  ctx.ops.rmsnorm_forward(h, rstd, x, norm_->value, shape_.norm_eps);
  ctx.ops.matmul(logits, h, false, weight_->value, true, false);
}

void Head::backward(Context& ctx, Frame& frame, Tensor dx) {
  Saved& s = saved_[static_cast<size_t>(frame.index)];
  ctx.ops.rmsnorm_backward(dx, norm_->grad, s.dh, s.x, norm_->value, s.rstd, false);
}

}  // namespace strait
