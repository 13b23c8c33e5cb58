#include "engine/optimizer/adamw.h"

namespace strait {

void adamw_step(Context& ctx, ParameterList& parameters, const AdamWOptions& o, double lr,
                int64_t step, Tensor grad_scale) {
  const int64_t decayed = parameters.decayed(), all = parameters.flat_master().elements();
  auto update = [&](int64_t begin, int64_t end, double weight_decay) {
    if (begin == end) return;
    auto part = [&](const Tensor& t) { return t.slice(0, begin, end - begin); };
    ctx.ops.adamw(part(parameters.flat_master()), part(parameters.flat_value()),
                  part(parameters.flat_m()), part(parameters.flat_v()),
                  part(parameters.flat_grad()), grad_scale,
                  {lr, o.beta1, o.beta2, o.eps, weight_decay, step});
  };
  update(0, decayed, o.weight_decay);
  update(decayed, all, 0.0);
  ctx.ops.fill(parameters.flat_grad(), 0.0);
}

}  // namespace strait
