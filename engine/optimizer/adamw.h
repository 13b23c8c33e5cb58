// AdamW with decoupled weight decay over the flat buffers of a rank (Loshchilov & Hutter 2019): one op for the parameters that
// decay, one for those that do not, and one for each matrix with a second moment a row.
#pragma once

#include "engine/nn/module.h"

namespace strait {

struct AdamWOptions {
  double beta1 = 0.9, beta2 = 0.95, eps = 1e-8, weight_decay = 0.1;
};

// One update from the accumulated gradients, scaled by grad_scale (1) S; then the gradients are zero. `step` is 1-based.
void adamw_step(Context& ctx, ParameterList& parameters, const AdamWOptions& options, double lr,
                int64_t step, Tensor grad_scale);

}  // namespace strait
