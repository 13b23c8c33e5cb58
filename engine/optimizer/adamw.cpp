#include "engine/optimizer/adamw.h"

namespace strait {

void adamw_step(Context& ctx, const ParameterList& parameters, const ParameterList::Range& range,
                const AdamWOptions& o, double lr, double weight_decay, int64_t step,
                Tensor grad_scale) {
  const auto part = [&](const Tensor& t) {
    return t.slice(0, range.begin, range.end - range.begin);
  };
  ctx.ops.adamw(part(parameters.flat_master()), part(parameters.flat_value()),
                part(parameters.flat_m()), part(parameters.flat_v()), part(parameters.flat_grad()),
                grad_scale, {lr, o.beta1, o.beta2, o.eps, weight_decay, step});
}

}  // namespace strait
