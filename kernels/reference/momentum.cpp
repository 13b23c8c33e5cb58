// An exponential mean of gradients, with or without a look ahead (Nesterov), element by element.
#include "kernels/reference/reference.h"

namespace strait {

void ReferenceBackend::do_momentum(Tensor update, Tensor m, Tensor grad, Tensor grad_scale,
                                   double beta, bool nesterov) {
  for (int64_t i = 0; i < m.elements(); ++i) {
    const double g = get(flat(grad), i) * get(grad_scale, 0);
    const double mean = beta * get(flat(m), i) + (1.0 - beta) * g;
    set(flat(m), mean, i);
    set(flat(update), nesterov ? beta * mean + (1.0 - beta) * g : mean, i);
  }
}

}  // namespace strait
