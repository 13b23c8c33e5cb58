// AdamW with decoupled weight decay over the flat buffers of a rank (Loshchilov & Hutter 2019): one op for each range of parameters
// with equal settings.
#pragma once

#include "engine/nn/module.h"

namespace strait {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;
};

// One update of a range from its accumulated gradients, scaled by grad_scale (1) S. `step` is 1-based. `weight_decay`: the range's,
// not the options'.
void adamw_step(Context& ctx, const ParameterList& parameters, const ParameterList::Range& range,
                const AdamWOptions& options, double lr, double weight_decay, int64_t step,
                Tensor grad_scale);

}  // namespace strait
