// RMSNorm (Zhang & Sennrich 2019): y = x rstd w, rstd = (mean x^2 + eps)^(-1/2); its gradient, with
// xh = x rstd: dx = rstd (dy w - xh mean(dy w xh)), dw = sum over rows of dy xh.
#include <cmath>

#include "kernels/reference/reference.h"

namespace strait {

void ReferenceBackend::do_rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor w, double eps) {
  const int64_t N = x.size(0), C = x.size(1);
  for (int64_t n = 0; n < N; ++n) {
    double squares = 0;
    for (int64_t c = 0; c < C; ++c) squares += get(x, n, c) * get(x, n, c);
    const double r = 1.0 / std::sqrt(squares / static_cast<double>(C) + eps);
    set(rstd, r, n);
    for (int64_t c = 0; c < C; ++c) set(y, get(x, n, c) * r * get(w, c), n, c);
  }
}

void ReferenceBackend::do_add_rmsnorm_forward(Tensor sum, Tensor y, Tensor rstd, Tensor x,
                                              Tensor delta, Tensor w, double eps) {
  do_add(sum, x, delta);
  do_rmsnorm_forward(y, rstd, sum, w, eps);
}

void ReferenceBackend::do_rmsnorm_backward(Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor w,
                                           Tensor rstd, bool accumulate_dx) {
  const int64_t N = x.size(0), C = x.size(1);
  for (int64_t n = 0; n < N; ++n) {
    const double r = get(rstd, n);
    double mean = 0;
    for (int64_t c = 0; c < C; ++c) mean += get(dy, n, c) * get(w, c) * get(x, n, c) * r;
    mean /= static_cast<double>(C);
    for (int64_t c = 0; c < C; ++c) {
      const double gradient = r * (get(dy, n, c) * get(w, c) - get(x, n, c) * r * mean);
      set(dx, gradient + (accumulate_dx ? get(dx, n, c) : 0.0), n, c);
    }
  }
  for (int64_t c = 0; c < C; ++c) {
    double sum = get(dw, c);
    for (int64_t n = 0; n < N; ++n) sum += get(dy, n, c) * get(x, n, c) * get(rstd, n);
    set(dw, sum, c);
  }
}

}  // namespace strait
