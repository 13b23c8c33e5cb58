// Rotary embedding in place: each row of (token, head) turns its two halves by the table's cosines
// and sines. Reads and writes x once. Row-local.
#pragma once

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace strait::cpu {

template <class V>
void rope(Tensor x, Tensor table, Tensor positions, bool inverse, int threads) {
  check_ids(Op::rope, "positions", positions, 0, table.size(0));
  by_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    const int64_t B = x.size(0), Tokens = x.size(1), H = x.size(2), Dh = x.size(3), half = Dh / 2,
                  rows = rows_per_chunk(H * Dh);
    const V sign = V::set1(inverse ? -1.0f : 1.0f);
    parallel_for(threads, chunks_of(B * Tokens, rows), [&](int64_t chunk, int) {
      const Range range = chunk_range(chunk, rows, B * Tokens);
      for (int64_t n = range.begin; n < range.end; ++n) {
        const int64_t b = n / Tokens, t = n % Tokens;
        const float* cosine = table.as<const float>() + positions.as<const int32_t>()[t] * Dh;
        const float* sine = cosine + half;
        for (int64_t h = 0; h < H; ++h) {
          T* first = x.as<T>() + b * x.stride(0) + t * x.stride(1) + h * Dh;
          T* second = first + half;
          for_groups(half, [&](int64_t i, auto lanes) {
            const V c = load<V>(cosine + i, lanes), s = load<V>(sine + i, lanes) * sign;
            const V x1 = load<V>(first + i, lanes), x2 = load<V>(second + i, lanes);
            store(first + i, x1 * c - x2 * s, lanes);
            store(second + i, fma(x2, c, x1 * s), lanes);
          });
        }
      }
    });
  });
}

}  // namespace strait::cpu
