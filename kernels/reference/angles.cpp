// Numbers kept within a limit, the coefficients of a rotation by an angle, and dot products of rows.
#include <algorithm>
#include <cmath>

#include "kernels/reference/reference.h"

namespace strait {

void ReferenceBackend::do_bound_forward(Tensor y, Tensor x, Bound bound, double limit) {
  for (int64_t i = 0; i < y.elements(); ++i) {
    const double value = get(flat(x), i);
    set(flat(y),
        bound == Bound::hard ? std::clamp(value, -limit, limit) : limit * std::tanh(value / limit),
        i);
  }
}

void ReferenceBackend::do_bound_backward(Tensor dx, Tensor dy, Tensor x, Bound bound,
                                         double limit) {
  for (int64_t i = 0; i < dx.elements(); ++i) {
    const double value = get(flat(x), i), t = std::tanh(value / limit),
                 slope = bound == Bound::tanh ? 1 - t * t : (std::abs(value) < limit ? 1.0 : 0.0);
    set(flat(dx), slope == 0 ? 0.0 : slope * get(flat(dy), i), i);
  }
}

void ReferenceBackend::do_rotation_coefficients(Tensor f, Tensor angle, RotationSeries series,
                                                bool derivative) {
  for (int64_t n = 0; n < f.size(0); ++n) {
    const double a = get(angle, n);
    if (series == RotationSeries::plane) {
      set(f, derivative ? 0.0 : 1.0, n, 0);
      set(f, derivative ? std::cos(a) : std::sin(a), n, 1);
      set(f, derivative ? std::sin(a) : 2 * std::sin(a / 2) * std::sin(a / 2), n, 2);
      continue;
    }
    for (int64_t j = 0; j < f.size(1); ++j) {
      const auto power = static_cast<double>(j);
      set(f,
          !derivative ? std::pow(a, power)
          : j == 0    ? 0.0
                      : power * std::pow(a, power - 1),
          n, j);
    }
  }
}

void ReferenceBackend::do_dot_rows(Tensor y, Tensor a, Tensor b, bool accumulate) {
  for (int64_t n = 0; n < a.size(0); ++n) {
    double sum = accumulate ? get(y, n) : 0.0;
    for (int64_t c = 0; c < a.size(1); ++c) sum += get(a, n, c) * get(b, n, c);
    set(y, sum, n);
  }
}

}  // namespace strait
