// SwiGLU forward and backward, element by element: reads 2F (backward 3F), writes F (2F) elements a
// row. Row-local.
#pragma once

#include "kernels/cpu/exponential.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace strait::cpu {

// 1 / (1 + exp(-g))
template <class V>
V logistic(V g) {
  return V::set1(1.0f) / (V::set1(1.0f) + exponential(V::zero() - g));
}

template <class V>
void swiglu_forward(Tensor y, Tensor gate_up, int threads) {
  by_type(y.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t N = y.size(0), F = y.size(1), rows = rows_per_chunk(F);
    parallel_for(threads, chunks_of(N, rows), [&](int64_t chunk, int) {
      const Range range = chunk_range(chunk, rows, N);
      for (int64_t n = range.begin; n < range.end; ++n) {
        T* out = y.as<T>() + n * F;
        const T* gate = gate_up.as<const T>() + n * 2 * F;
        for_groups(F, [&](int64_t f, auto lanes) {
          const V g = load<V>(gate + f, lanes);
          store(out + f, g * logistic(g) * load<V>(gate + F + f, lanes), lanes);
        });
      }
    });
  });
}

template <class V>
void swiglu_backward(Tensor dgate_up, Tensor dy, Tensor gate_up, int threads) {
  by_type(dy.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t N = dy.size(0), F = dy.size(1), rows = rows_per_chunk(F);
    parallel_for(threads, chunks_of(N, rows), [&](int64_t chunk, int) {
      const Range range = chunk_range(chunk, rows, N);
      for (int64_t n = range.begin; n < range.end; ++n) {
        T* out = dgate_up.as<T>() + n * 2 * F;
        const T* gate = gate_up.as<const T>() + n * 2 * F;
        for_groups(F, [&](int64_t f, auto lanes) {
          const V g = load<V>(gate + f, lanes), u = load<V>(gate + F + f, lanes),
                  d = load<V>(dy.as<const T>() + n * F + f, lanes);
          const V s = logistic(g), one = V::set1(1.0f);
          store(out + f, d * u * s * fma(g, one - s, one), lanes);
          store(out + F + f, d * g * s, lanes);
        });
      }
    });
  });
}

}  // namespace strait::cpu
