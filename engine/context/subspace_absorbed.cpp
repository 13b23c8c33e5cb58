// SubspaceSide where the projection is absorbed into the basis (specs/mixture_of_subspaces.md 2.1 and 3, M22): P = W U (C,r) is made once a piece
// and sequence, and Z (tokens,w) never. In code W^T (w,C) is what is stored.
//
//   zbar = W^T xbar;  C = X P
//   dP = X^T dC;  dtheta += <dP, W U'>;  dU += W^T dP (stiefel)
//   dX = dC P^T + 1/n 1 (W dzbar)^T;  dW = dP U^T + xbar dzbar^T,  dzbar = psi dt
#include "engine/context/subspace_matrices.h"
#include "engine/context/subspace_side.h"

namespace strait {
namespace {

// Tokens of sequence b of x (B,tokens,C): (tokens, C).
Tensor tokens_of(const Tensor& x, int64_t b) {
  Tensor m = x.slice(0, b, 1);
  m.shape = {x.size(1), x.size(2)};
  m.strides = {x.stride(1), 1, 0, 0};
  return m;
}

}  // namespace

void token_mean(Context& ctx, const Tensor& mean, const Tensor& x) {
  ArenaScope scope(ctx.scratch);
  const Tensor each = ones(ctx, x.size(1), x.dtype);
  for (int64_t b = 0; b < x.size(0); ++b)
    ctx.ops.matmul(mean.slice(0, b, 1), each, false, tokens_of(x, b), false, false);
  ctx.ops.scale(mean, 1.0 / static_cast<double>(x.size(1)));
}

Tensor SubspaceSide::rows_of(const Tensor& weight, int64_t g) const {
  return weight.slice(0, g * w_, w_);
}

void SubspaceSide::absorbed_mean(Context& ctx, const Tensor& zbar, const Input& input) const {
  ArenaScope scope(ctx.scratch);
  const Tensor mean = in_t(ctx, input.mean);
  for (int64_t g = 0; g < groups_; ++g)
    ctx.ops.matmul(zbar.slice(0, g, 1).view({zbar.size(1), w_}), mean, false,
                   rows_of(input.weight, g), true, false);
}

void SubspaceSide::absorbed_compress(Context& ctx, Arena& keep, Saved& saved, const Tensor& c,
                                     const Tensor& theta, const Input& input, bool training) const {
  const int64_t B = input.x.size(0), width = input.x.size(2),
                frames = terms_ == 1 ? 1 : B;  // as bases() gives them
  if (training) saved.input = input;
  saved.absorbed = (training ? keep : ctx.scratch).take({groups_, frames, width, r_}, t_);
  ArenaScope scope(ctx.scratch);
  const Tensor u = bases(ctx, theta, false);
  for (int64_t g = 0; g < groups_; ++g) {
    for (int64_t b = 0; b < frames; ++b)
      ctx.ops.matmul(matrix_of(saved.absorbed, g, b), rows_of(input.weight, g), true,
                     matrix_of(u, g, b), false, false);
    for (int64_t b = 0; b < B; ++b)
      ctx.ops.matmul(matrix_of(c, g, b), tokens_of(input.x, b), false,
                     matrix_of(saved.absorbed, g, b), false, false);
  }
}

void SubspaceSide::absorbed_angle_gradient(Context& ctx, Saved& saved, const Tensor& dc,
                                           const Tensor& dtheta) const {
  const Input& input = saved.input;
  const int64_t B = input.x.size(0), width = input.x.size(2);
  saved.dabsorbed = ctx.scratch.take({groups_, B, width, r_}, s_);
  ArenaScope scope(ctx.scratch);
  const Tensor d = in_t(ctx, dc);
  for (int64_t g = 0; g < groups_; ++g)
    for (int64_t b = 0; b < B; ++b)
      ctx.ops.matmul(matrix_of(saved.dabsorbed, g, b), tokens_of(input.x, b), true,
                     matrix_of(d, g, b), false, false);
  if (basis_gradient_ != nullptr) {
    const Tensor dp = in_t(ctx, saved.dabsorbed);
    for (int64_t g = 0; g < groups_; ++g)
      for (int64_t b = 0; b < B; ++b)
        ctx.ops.matmul(basis_gradient_->value.slice(0, g, 1).view({w_, r_}),
                       rows_of(input.weight, g), false, matrix_of(dp, g, b), false, true);
  }
  if (!learns()) return;
  const Tensor theta = ctx.scratch.take(saved.t.shape, s_);
  ctx.ops.bound_forward(theta, saved.t, bound_, limit_);
  const Tensor turned = ctx.scratch.take(saved.dabsorbed.shape, s_), u = bases(ctx, theta, true);
  for (int64_t g = 0; g < groups_; ++g)
    for (int64_t b = 0; b < B; ++b)
      ctx.ops.matmul(matrix_of(turned, g, b), rows_of(input.weight, g), true, matrix_of(u, g, b),
                     false, false);
  ctx.ops.dot_rows(flat(dtheta), flat_rows(saved.dabsorbed), flat_rows(turned), true);
}

void SubspaceSide::absorbed_backward(Context& ctx, const Saved& saved, const Tensor& dx,
                                     const Tensor& dweight, const Tensor& dc,
                                     bool accumulate) const {
  ArenaScope scope(ctx.scratch);
  const Input& input = saved.input;
  const int64_t B = dx.size(0), tokens = dx.size(1), width = dx.size(2);
  const Tensor theta = ctx.scratch.take(saved.t.shape, s_);
  ctx.ops.bound_forward(theta, saved.t, bound_, limit_);
  const Tensor u = bases(ctx, theta, false), d = in_t(ctx, dc), dp = in_t(ctx, saved.dabsorbed);
  for (int64_t g = 0; g < groups_; ++g)
    for (int64_t b = 0; b < B; ++b) {
      ctx.ops.matmul(tokens_of(dx, b), matrix_of(d, g, b), false, matrix_of(saved.absorbed, g, b),
                     true, accumulate || g > 0);
      ctx.ops.matmul(rows_of(dweight, g), matrix_of(u, g, b), false, matrix_of(dp, g, b), true,
                     true);
    }
  if (!learns()) return;
  const Tensor each_sequence = ones(ctx, B, s_), each_token = ones(ctx, tokens, s_),
               dzbar = ctx.scratch.take({B, w_}, s_), dmean = ctx.scratch.take({B, width}, s_);
  for (int64_t g = 0; g < groups_; ++g) {
    head_backward(ctx, saved, dzbar, each_sequence, g);
    if (!reads_pieces()) continue;
    ArenaScope inner(ctx.scratch);
    ctx.ops.matmul(rows_of(dweight, g), dzbar, true, input.mean, false, true);
    ctx.ops.matmul(dmean, in_t(ctx, dzbar), false, rows_of(input.weight, g), false, g > 0);
  }
  if (!reads_pieces()) return;
  ctx.ops.scale(dmean, 1.0 / static_cast<double>(tokens));
  for (int64_t b = 0; b < B; ++b)
    ctx.ops.matmul(tokens_of(dx, b), each_token, true, dmean.slice(0, b, 1), false, true);
}

}  // namespace strait
