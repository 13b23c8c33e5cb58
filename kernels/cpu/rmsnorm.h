// RMSNorm, rows in sixteen lanes. Forward reads x twice (the second time from cache) and writes y:
// 2 C elements of traffic a row; backward reads dy and x and writes dx: 3 C. Row-local, but for dw:
// rows in chunks of 64, one partial sum a chunk, combined in chunk order.
#pragma once

#include <cmath>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace strait::cpu {

// y = row * rstd * w, from the row's sum of squares.
template <class V, class T>
float normalise_row(T* y, const T* x, const T* w, int64_t C, float squares, float eps) {
  const float rstd = 1.0f / std::sqrt(squares / static_cast<float>(C) + eps);
  const V scale = V::set1(rstd);
  for_groups(C, [&](int64_t c, auto lanes) {
    store(y + c, load<V>(x + c, lanes) * scale * load<V>(w + c, lanes), lanes);
  });
  return rstd;
}

template <class V>
void rmsnorm_forward(Tensor y, Tensor rstd, Tensor x, Tensor w, double eps, int threads) {
  by_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t N = x.size(0), C = x.size(1), rows = rows_per_chunk(C);
    parallel_for(threads, chunks_of(N, rows), [&](int64_t chunk, int) {
      const Range range = chunk_range(chunk, rows, N);
      for (int64_t n = range.begin; n < range.end; ++n) {
        const T* row = x.as<const T>() + n * C;
        V squares = V::zero();
        for_groups(C, [&](int64_t c, auto lanes) {
          const V v = load<V>(row + c, lanes);
          squares = fma(v, v, squares);
        });
        rstd.as<float>()[n] = normalise_row<V>(y.as<T>() + n * C, row, w.as<const T>(), C,
                                               squares.sum(), static_cast<float>(eps));
      }
    });
  });
}

template <class V>
void add_rmsnorm_forward(Tensor sum, Tensor y, Tensor rstd, Tensor x, Tensor delta, Tensor w,
                         double eps, int threads) {
  by_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t N = x.size(0), C = x.size(1), rows = rows_per_chunk(C);
    parallel_for(threads, chunks_of(N, rows), [&](int64_t chunk, int) {
      const Range range = chunk_range(chunk, rows, N);
      for (int64_t n = range.begin; n < range.end; ++n) {
        T* row = sum.as<T>() + n * C;
        V squares = V::zero();
        for_groups(C, [&](int64_t c, auto lanes) {
          store(row + c,
                load<V>(x.as<const T>() + n * C + c, lanes) +
                    load<V>(delta.as<const T>() + n * C + c, lanes),
                lanes);
          const V v = load<V>(row + c, lanes);  // as rounded to T
          squares = fma(v, v, squares);
        });
        rstd.as<float>()[n] = normalise_row<V>(y.as<T>() + n * C, row, w.as<const T>(), C,
                                               squares.sum(), static_cast<float>(eps));
      }
    });
  });
}

// One row of the backward: dx, and dw += dy xh.
template <class V, class T>
void rmsnorm_backward_row(T* dx, float* dw, const T* dy, const T* x, const T* w, int64_t C,
                          float rstd, bool accumulate) {
  V dot = V::zero();
  for_groups(C, [&](int64_t c, auto lanes) {
    dot = fma(load<V>(dy + c, lanes) * load<V>(w + c, lanes), load<V>(x + c, lanes), dot);
  });
  const V r = V::set1(rstd), mean = V::set1(dot.sum() * rstd / static_cast<float>(C));
  for_groups(C, [&](int64_t c, auto lanes) {
    const V d = load<V>(dy + c, lanes), xh = load<V>(x + c, lanes) * r;
    V gradient = r * (d * load<V>(w + c, lanes) - xh * mean);
    if (accumulate) gradient = load<V>(dx + c, lanes) + gradient;
    store(dx + c, gradient, lanes);
    store(dw + c, fma(d, xh, load<V>(dw + c, lanes)), lanes);
  });
}

template <class V>
void rmsnorm_backward(Tensor dx, Tensor dw, Tensor dy, Tensor x, Tensor w, Tensor rstd,
                      bool accumulate, int threads, Scratch& scratch) {
  by_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    constexpr int64_t kRows = 64;
    const int64_t N = x.size(0), C = x.size(1), chunks = chunks_of(N, kRows);
    scratch.reserve(static_cast<size_t>(chunks * C) * sizeof(float));
    float* partial = scratch.of_thread<float>(0);  // (chunks, C)
    parallel_for(threads, chunks, [&](int64_t chunk, int) {
      const Range range = chunk_range(chunk, kRows, N);
      float* sum = partial + chunk * C;
      for_groups(C, [&](int64_t c, auto lanes) { store(sum + c, V::zero(), lanes); });
      for (int64_t n = range.begin; n < range.end; ++n)
        rmsnorm_backward_row<V>(dx.as<T>() + n * C, sum, dy.as<const T>() + n * C,
                                x.as<const T>() + n * C, w.as<const T>(), C,
                                rstd.as<const float>()[n], accumulate);
    });
    float* total = dw.as<float>();
    for (int64_t chunk = 0; chunk < chunks; ++chunk)
      for_groups(C, [&](int64_t c, auto lanes) {
        store(total + c, load<V>(total + c, lanes) + load<V>(partial + chunk * C + c, lanes),
              lanes);
      });
  });
}

}  // namespace strait::cpu
