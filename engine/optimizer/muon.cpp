#include "engine/optimizer/muon.h"

#include <algorithm>
#include <cmath>

namespace strait {

double muon_scale(MuonScale scale, int64_t outputs, int64_t inputs) {
  const auto out = static_cast<double>(outputs), in = static_cast<double>(inputs);
  switch (scale) {
    case MuonScale::spectral:
      return std::sqrt(std::max(1.0, out / in));
    case MuonScale::rms:
      return 0.2 * std::sqrt(std::max(out, in));
    case MuonScale::none:
      break;
  }
  return 1;
}

void muon_step(Context& ctx, const Parameter& p, const MuonOptions& o, double lr,
               double weight_decay, Tensor grad_scale) {
  ArenaScope scope(ctx.scratch);
  const Tensor update = ctx.scratch.take(p.shape, p.value.dtype);
  ctx.ops.momentum(update, p.m, p.grad, grad_scale, o.momentum, o.nesterov);
  int64_t first = 0;
  for (const int64_t rows : p.stacked.empty() ? std::vector{p.shape[0]} : p.stacked) {
    const Tensor part = update.slice(0, first, rows), master = p.master.slice(0, first, rows);
    polar(ctx, part, part, {o.coefficients, o.steps});
    const int64_t columns = p.shape[1];
    const double s =
        muon_scale(o.scale, p.input_first ? columns : rows, p.input_first ? rows : columns);
    ctx.ops.combine(master, 1.0 - lr * weight_decay, master, -lr * s, part);
    first += rows;
  }
  if (p.value.dtype != p.master.dtype) ctx.ops.cast(p.value, p.master);
}

}  // namespace strait
