#include "engine/manifold/spel.h"

#include "engine/manifold/cholesky_qr.h"
#include "engine/manifold/polar.h"

namespace strait {

void project_to_tangent(Context& ctx, Tensor x, Tensor a) {
  ArenaScope scope(ctx.scratch);
  const int64_t r = a.size(1);
  Tensor k = ctx.scratch.take({r, r}, a.dtype);
  ctx.ops.matmul(k, a, true, x, false, false);
  ctx.ops.matmul(k, x, true, a, false, true);
  ctx.ops.scale(k, -0.5);
  ctx.ops.matmul(x, a, false, k, false, true);
}

void retract(Context& ctx, Tensor a, const std::string& retraction) {
  if (retraction == "qr") return orthonormalise_columns(ctx, a);
  ArenaScope scope(ctx.scratch);
  Tensor y = ctx.scratch.take(a.shape, a.dtype);
  if (retraction == "polar_express")
    polar(ctx, y, a, {.coefficients = PolarCoefficients::polar_express, .steps = 8});
  else
    polar(ctx, y, a,
          {.coefficients = PolarCoefficients::newton_schulz, .steps = 2, .normalise = false});
  ctx.ops.cast(a, y);
}

void spel_step(Context& ctx, Tensor a, Tensor m, Tensor g, double alpha, const SpelOptions& o) {
  ArenaScope scope(ctx.scratch);
  if (o.momentum == "tangent_accumulate") project_to_tangent(ctx, g, a);
  ctx.ops.scale(m, o.beta);
  ctx.ops.axpy(m, 1.0 - o.beta, g);
  Tensor direction = ctx.scratch.take(m.shape, m.dtype);
  ctx.ops.cast(direction, m);
  if (o.momentum == "euclid_then_project") project_to_tangent(ctx, direction, a);
  // Five iterations leave small singular values of a direction below 1: a shorter step in directions that hardly count.
  polar(ctx, direction, direction, {.coefficients = PolarCoefficients::polar_express, .steps = 5});
  ctx.ops.axpy(a, -alpha, direction);
  // The quintic needs a start near the manifold (specs/mapl.md 3.2); it is not after a long step.
  retract(ctx, a, alpha > 0.1 && o.retraction == "ns_quintic" ? "polar_express" : o.retraction);
  if (o.transport) project_to_tangent(ctx, m, a);
}

}  // namespace strait
