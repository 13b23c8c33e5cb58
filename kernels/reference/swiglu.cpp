// SwiGLU (Shazeer 2020): y = silu(g) u with silu(g) = g s(g), s the logistic function; its
// gradient: dg = dy u s(g) (1 + g (1 - s(g))), du = dy silu(g).
#include <cmath>

#include "kernels/reference/reference.h"

namespace strait {

void ReferenceBackend::do_swiglu_forward(Tensor y, Tensor gate_up) {
  const int64_t N = y.size(0), F = y.size(1);
  for (int64_t n = 0; n < N; ++n)
    for (int64_t f = 0; f < F; ++f) {
      const double g = get(gate_up, n, f), u = get(gate_up, n, f + F);
      set(y, g / (1.0 + std::exp(-g)) * u, n, f);
    }
}

void ReferenceBackend::do_swiglu_backward(Tensor dgate_up, Tensor dy, Tensor gate_up) {
  const int64_t N = dy.size(0), F = dy.size(1);
  for (int64_t n = 0; n < N; ++n)
    for (int64_t f = 0; f < F; ++f) {
      const double g = get(gate_up, n, f), u = get(gate_up, n, f + F), d = get(dy, n, f);
      const double logistic = 1.0 / (1.0 + std::exp(-g));
      set(dgate_up, d * u * logistic * (1.0 + g * (1.0 - logistic)), n, f);
      set(dgate_up, d * g * logistic, n, f + F);
    }
}

}  // namespace strait
