// y[m,n] = sum_k A[m,k] B[k,n] [+ y[m,n]], with A = a or its transpose, B = b or its transpose.
#include "kernels/reference/reference.h"

namespace strait {

void ReferenceBackend::do_matmul(Tensor y, Tensor a, bool transpose_a, Tensor b, bool transpose_b,
                                 bool accumulate) {
  const int64_t M = y.size(0), N = y.size(1), K = a.size(transpose_a ? 0 : 1);
  for (int64_t m = 0; m < M; ++m)
    for (int64_t n = 0; n < N; ++n) {
      double sum = accumulate ? get(y, m, n) : 0.0;
      for (int64_t k = 0; k < K; ++k)
        sum += (transpose_a ? get(a, k, m) : get(a, m, k)) *
               (transpose_b ? get(b, n, k) : get(b, k, n));
      set(y, sum, m, n);
    }
}

}  // namespace strait
