// AdamW over flat buffers: one pass, 16 bytes read and 12 + size(T) written per parameter.
// Element-local. With one second moment a row: two passes over a row, the second from the cache.
#pragma once

#include <cmath>

#include "kernels/cpu/elementwise.h"

namespace strait::cpu {

template <class V>
void adamw(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad, Tensor grad_scale,
           const AdamWParameters& p, int threads) {
  const auto constant = [](double x) { return V::set1(static_cast<float>(x)); };
  const V beta1 = constant(p.beta1), rest1 = constant(1.0 - p.beta1), beta2 = constant(p.beta2),
          rest2 = constant(1.0 - p.beta2);
  const V correction1 = constant(1.0 / (1.0 - std::pow(p.beta1, static_cast<double>(p.step))));
  const V correction2 = constant(1.0 / (1.0 - std::pow(p.beta2, static_cast<double>(p.step))));
  const V minus_lr = constant(-p.lr), eps = constant(p.eps), decay = constant(p.weight_decay);
  const V clip = V::set1(*grad_scale.as<const float>());
  by_type(compute.dtype, [&](auto element) {
    using T = decltype(element);
    for_chunks(threads, master.elements(), [&](int64_t begin, int64_t end) {
      float *master_at = master.as<float>() + begin, *m_at = m.as<float>() + begin,
            *v_at = v.as<float>() + begin;
      const float* grad_at = grad.as<const float>() + begin;
      T* compute_at = compute.as<T>() + begin;
      for_groups(end - begin, [&](int64_t i, auto lanes) {
        const V g = load<V>(grad_at + i, lanes) * clip;
        const V mean = fma(beta1, load<V>(m_at + i, lanes), rest1 * g);
        const V square = fma(beta2, load<V>(v_at + i, lanes), rest2 * g * g);
        const V old = load<V>(master_at + i, lanes);
        const V step = mean * correction1 / (square_root(square * correction2) + eps);
        const V updated = fma(minus_lr, fma(decay, old, step), old);
        store(m_at + i, mean, lanes);
        store(v_at + i, square, lanes);
        store(master_at + i, updated, lanes);
        store(compute_at + i, updated, lanes);
      });
    });
  });
}

template <class V>
void adamw_rows(Tensor master, Tensor compute, Tensor m, Tensor v, Tensor grad, Tensor grad_scale,
                const AdamWParameters& p, int threads) {
  const auto constant = [](double x) { return V::set1(static_cast<float>(x)); };
  const V beta1 = constant(p.beta1), rest1 = constant(1.0 - p.beta1);
  const V minus_lr = constant(-p.lr), decay = constant(p.weight_decay);
  const V clip = V::set1(*grad_scale.as<const float>());
  const double correction1 = 1.0 / (1.0 - std::pow(p.beta1, static_cast<double>(p.step)));
  const double correction2 = 1.0 / (1.0 - std::pow(p.beta2, static_cast<double>(p.step)));
  by_type(compute.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t R = master.size(0), C = master.size(1), rows = rows_per_chunk(C);
    parallel_for(threads, chunks_of(R, rows), [&](int64_t chunk, int) {
      const Range range = chunk_range(chunk, rows, R);
      for (int64_t r = range.begin; r < range.end; ++r) {
        float *master_at = master.as<float>() + r * C, *m_at = m.as<float>() + r * C;
        const float* grad_at = grad.as<const float>() + r * C;
        T* compute_at = compute.as<T>() + r * C;
        V squares = V::zero();
        for_groups(C, [&](int64_t c, auto lanes) {
          const V g = load<V>(grad_at + c, lanes) * clip;
          squares = fma(g, g, squares);
        });
        float& square = v.as<float>()[r];
        square = static_cast<float>(p.beta2 * static_cast<double>(square) +
                                    (1.0 - p.beta2) * static_cast<double>(squares.sum()) /
                                        static_cast<double>(C));
        const V factor =
            constant(correction1 / (std::sqrt(static_cast<double>(square) * correction2) + p.eps));
        for_groups(C, [&](int64_t c, auto lanes) {
          const V mean =
              fma(beta1, load<V>(m_at + c, lanes), rest1 * (load<V>(grad_at + c, lanes) * clip));
          const V old = load<V>(master_at + c, lanes);
          const V updated = fma(minus_lr, fma(decay, old, mean * factor), old);
          store(m_at + c, mean, lanes);
          store(master_at + c, updated, lanes);
          store(compute_at + c, updated, lanes);
        });
      }
    });
  });
}

}  // namespace strait::cpu
