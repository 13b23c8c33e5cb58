// AdamW with decoupled weight decay (Loshchilov & Hutter 2019), element by element over flat
// buffers, and with one second moment a row over matrices.
#include <cmath>

#include "kernels/reference/reference.h"

namespace strait {

void ReferenceBackend::do_adamw(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad,
                                Tensor grad_scale, const AdamWParameters& p) {
  const double correction1 = 1.0 - std::pow(p.beta1, static_cast<double>(p.step));
  const double correction2 = 1.0 - std::pow(p.beta2, static_cast<double>(p.step));
  for (int64_t i = 0; i < master.elements(); ++i) {
    const double g = get(flat(grad), i) * get(grad_scale, 0);
    const double mean = p.beta1 * get(flat(m), i) + (1.0 - p.beta1) * g;
    const double square = p.beta2 * get(flat(v), i) + (1.0 - p.beta2) * g * g;
    const double old = get(flat(master), i);
    const double updated =
        old - p.lr * (mean / correction1 / (std::sqrt(square / correction2) + p.eps) +
                      p.weight_decay * old);
    set(flat(m), mean, i);
    set(flat(v), square, i);
    set(flat(master), updated, i);
    // The compute copy is rounded from the stored master, so that both always agree.
    set(flat(compute), get(flat(master), i), i);
  }
}

void ReferenceBackend::do_adamw_rows(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad,
                                     Tensor grad_scale, const AdamWParameters& p) {
  const double correction1 = 1.0 - std::pow(p.beta1, static_cast<double>(p.step));
  const double correction2 = 1.0 - std::pow(p.beta2, static_cast<double>(p.step));
  const int64_t columns = master.size(1);
  for (int64_t r = 0; r < master.size(0); ++r) {
    double squares = 0.0;
    for (int64_t c = 0; c < columns; ++c) {
      const double g = get(grad, r, c) * get(grad_scale, 0);
      squares += g * g;
    }
    const double square =
        p.beta2 * get(v, r) + (1.0 - p.beta2) * squares / static_cast<double>(columns);
    const double divisor = std::sqrt(square / correction2) + p.eps;
    set(v, square, r);
    for (int64_t c = 0; c < columns; ++c) {
      const double g = get(grad, r, c) * get(grad_scale, 0);
      const double mean = p.beta1 * get(m, r, c) + (1.0 - p.beta1) * g;
      const double old = get(master, r, c);
      set(m, mean, r, c);
      set(master, old - p.lr * (mean / correction1 / divisor + p.weight_decay * old), r, c);
      set(compute, get(master, r, c), r, c);
    }
  }
}

}  // namespace strait
