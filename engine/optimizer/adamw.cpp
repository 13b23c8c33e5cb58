#include "engine/optimizer/adamw.h"

namespace strait {

void adamw_step(Context& ctx, ParameterList& parameters, const AdamWOptions& o, double lr,
                int64_t step, Tensor grad_scale) {
  const auto rule = [&](double weight_decay) {
    return AdamWParameters{lr, o.beta1, o.beta2, o.eps, weight_decay, step};
  };
  auto update = [&](int64_t begin, int64_t end, double weight_decay) {
    if (begin == end) return;
    auto part = [&](const Tensor& t) { return t.slice(0, begin, end - begin); };
    ctx.ops.adamw(part(parameters.flat_master()), part(parameters.flat_value()),
                  part(parameters.flat_m()), part(parameters.flat_v()),
                  part(parameters.flat_grad()), grad_scale, rule(weight_decay));
  };
  update(0, parameters.decayed(), o.weight_decay);
  update(parameters.decayed(), parameters.elementwise(), 0.0);
  for (const Parameter& p : parameters.parameters())
    if (p.row_moments)
      ctx.ops.adamw_rows(p.master, p.value, p.m, p.v, p.grad, grad_scale,
                         rule(p.decay ? o.weight_decay : 0.0));
  ctx.ops.fill(parameters.flat_grad(), 0.0);
}

}  // namespace strait
