// The exponential mean of gradients and the step made of it: one pass, 8 bytes read and 4 + size(T)
// written per parameter. Element-local.
#pragma once

#include "kernels/cpu/elementwise.h"

namespace strait::cpu {

template <class V>
void momentum(Tensor update, Tensor m, Tensor grad, Tensor grad_scale, double beta, bool nesterov,
              int threads) {
  const V keep = V::set1(static_cast<float>(beta)), rest = V::set1(static_cast<float>(1.0 - beta)),
          clip = V::set1(*grad_scale.as<const float>());
  by_type(update.dtype, [&](auto element) {
    for_chunks(threads, m.elements(), [&](int64_t begin, int64_t end) {
      auto* out = update.as<decltype(element)>() + begin;
      float* mean_at = m.as<float>() + begin;
      const float* grad_at = grad.as<const float>() + begin;
      for_groups(end - begin, [&](int64_t i, auto lanes) {
        const V fresh = rest * (load<V>(grad_at + i, lanes) * clip);
        const V mean = fma(keep, load<V>(mean_at + i, lanes), fresh);
        store(mean_at + i, mean, lanes);
        store(out + i, nesterov ? fma(keep, mean, fresh) : mean, lanes);
      });
    });
  });
}

}  // namespace strait::cpu
