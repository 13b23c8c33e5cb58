// Joins the attention of the same queries to two blocks of keys (specs/context_parallelism.md 3.2
// (a)): with r = exp(-|lse - lse_block|) and w = 1 / (1 + r), or r / (1 + r) where the block's lse is
// the smaller one, o += w (o_block - o) and lse = max + log1p(r).
//
// Row-local: a row (b, u, h) has one weight, its elements are updated one by one. exp and log1p once
// a row, so plain ones; r is at most 1, nothing overflows.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace strait::cpu {

template <class V>
void attention_merge(Tensor o, Tensor lse, Tensor o_block, Tensor lse_block, int threads) {
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  const int64_t B = o.size(0), Tq = o.size(1), H = o.size(2), Dh = o.size(3),
                rows = rows_per_chunk(H * Dh);
  by_type(o_block.dtype, [&](auto element) {
    using T = decltype(element);
    parallel_for(threads, chunks_of(B * Tq, rows), [&](int64_t chunk, int) {
      const Range range = chunk_range(chunk, rows, B * Tq);
      for (int64_t n = range.begin; n < range.end; ++n)
        for (int64_t h = 0, b = n / Tq, u = n % Tq; h < H; ++h) {
          float& mine = lse.as<float>()[(b * H + h) * Tq + u];
          const float other = lse_block.as<const float>()[(b * H + h) * Tq + u];
          if (other == kMinusInfinity) continue;
          float* out = o.as<float>() + b * o.stride(0) + u * o.stride(1) + h * Dh;
          const T* in =
              o_block.as<const T>() + b * o_block.stride(0) + u * o_block.stride(1) + h * Dh;
          if (mine == kMinusInfinity) {
            for_groups(
                Dh, [&](int64_t d, auto lanes) { store(out + d, load<V>(in + d, lanes), lanes); });
            mine = other;
            continue;
          }
          const float ratio = std::exp(-std::abs(other - mine));
          const V weight = V::set1((other >= mine ? 1.0f : ratio) / (1.0f + ratio));
          for_groups(Dh, [&](int64_t d, auto lanes) {
            const V before = load<V>(out + d, lanes);
            store(out + d, fma(weight, load<V>(in + d, lanes) - before, before), lanes);
          });
          mine = std::max(mine, other) + std::log1p(ratio);
        }
    });
  });
}

}  // namespace strait::cpu
