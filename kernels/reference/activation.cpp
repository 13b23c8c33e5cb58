// SiLU x s(x) (Elfwing et al. 2018), ReLU max(x, 0), GELU in its tanh form x s(2 sqrt(2/pi) (x + 0.044715 x^3)) (Hendrycks & Gimpel
// 2016), s the logistic function, and their gradients: d/dx x s(t(x)) = s + x s (1 - s) t'.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "kernels/reference/reference.h"

namespace strait {
namespace {

struct Gate {
  double s, slope;  // s(t), dt/dx
  Gate(double x, Activation activation) {
    const double twice = 2.0 * std::sqrt(2.0 / std::numbers::pi);
    const bool gelu = activation == Activation::gelu;
    const double t = gelu ? twice * (x + 0.044715 * x * x * x) : x;
    slope = gelu ? twice * (1.0 + 3.0 * 0.044715 * x * x) : 1.0;
    s = 1.0 / (1.0 + std::exp(-t));
  }
};

}  // namespace

void ReferenceBackend::do_activation_forward(Tensor y, Tensor x, Activation activation) {
  for (int64_t i = 0; i < y.elements(); ++i) {
    const double v = get(flat(x), i);
    set(flat(y), activation == Activation::relu ? std::max(v, 0.0) : v * Gate(v, activation).s, i);
  }
}

void ReferenceBackend::do_activation_backward(Tensor dx, Tensor dy, Tensor x,
                                              Activation activation) {
  for (int64_t i = 0; i < dx.elements(); ++i) {
    const double v = get(flat(x), i), d = get(flat(dy), i);
    const Gate g(v, activation);
    const double slope = activation == Activation::relu ? (v > 0 ? 1.0 : 0.0)
                                                        : g.s + v * g.s * (1.0 - g.s) * g.slope;
    set(flat(dx), d * slope, i);
  }
}

}  // namespace strait
