// loss[n] = ln sum_v exp(z[n,v]) - z[n,target]; gradient scale (softmax(z) - onehot(target)), both
// 0 for ignored rows.
#include <algorithm>
#include <cmath>

#include "kernels/reference/reference.h"

namespace strait {

void ReferenceBackend::do_cross_entropy(Tensor loss, Tensor logits, Tensor targets, double scale,
                                        bool gradient) {
  const int64_t N = logits.size(0), V = logits.size(1);
  check_ids(Op::cross_entropy, "targets", targets, -1, V);
  for (int64_t n = 0; n < N; ++n) {
    const int64_t target = get_id(targets, n);
    double largest = get(logits, n, 0), sum = 0;
    for (int64_t v = 1; v < V; ++v) largest = std::max(largest, get(logits, n, v));
    for (int64_t v = 0; v < V; ++v) sum += std::exp(get(logits, n, v) - largest);
    const double lse = largest + std::log(sum);
    set(loss, target < 0 ? 0.0 : lse - get(logits, n, target), n);
    if (!gradient) continue;
    for (int64_t v = 0; v < V; ++v) {
      const double softmax = std::exp(get(logits, n, v) - lse);
      set(logits, target < 0 ? 0.0 : scale * (softmax - (v == target ? 1.0 : 0.0)), n, v);
    }
  }
}

}  // namespace strait
