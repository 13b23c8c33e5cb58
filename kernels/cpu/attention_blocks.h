// What both directions of attention share: packing blocks of queries and keys as f32, and masking a
// row of scores.
#pragma once

#include <algorithm>
#include <limits>

#include "kernels/cpu/attention_mask.h"
#include "kernels/cpu/exponential.h"
#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/transpose.h"

namespace strait::cpu {

// scores[0, 16 groups) = -inf where query u may not see the key.
template <class V>
void mask_row(float* scores, int64_t groups, const KeyPositions& keys,
              const QueryPositions& queries, int64_t u) {
  const V never = V::set1(-std::numeric_limits<float>::infinity());
  for (int64_t j = 0; j < 16 * groups; j += 16) {
    V s = V::where_at_most(keys.position + j, queries.bound(u), V::load(scores + j), never);
    if (queries.documents != nullptr)
      s = V::where_equal(keys.document + j, queries.documents[u], s, never);
    s.store(scores + j);
  }
}

// Rows [begin, end) of head h of x (B,T,H,Dh) as f32 times `factor`, with row stride `padded`; the
// padding is 0.
template <class V>
void pack_rows(float* out, const Tensor& x, int64_t b, int64_t h, int64_t begin, int64_t end,
               int64_t padded, float factor) {
  const V f = V::set1(factor);
  by_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    const T* base = x.as<const T>() + b * x.stride(0) + h * x.size(3);
    for (int64_t t = begin; t < end; ++t) {
      if (t + kRowsAhead < end)
        prefetch_row(base + (t + kRowsAhead) * x.stride(1),
                     x.size(3) * static_cast<int64_t>(sizeof(T)));
      for_groups(x.size(3), [&](int64_t d, auto lanes) {
        (load<V>(base + t * x.stride(1) + d, lanes) * f).store(out + (t - begin) * padded + d);
      });
    }
  });
}

// The same rows transposed: out (Dh, kKeyBlock); columns behind the last row are 0.
template <class V>
void pack_transposed(float* out, const Tensor& x, int64_t b, int64_t h, int64_t begin,
                     int64_t end) {
  if (end - begin < kKeyBlock) std::fill_n(out, x.size(3) * kKeyBlock, 0.0f);
  by_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    transpose<V>(out, kKeyBlock,
                 x.as<const T>() + b * x.stride(0) + begin * x.stride(1) + h * x.size(3),
                 x.stride(1), end - begin, x.size(3));
  });
}

// Rows [begin, end) of head h of y (B,T,H,Dh) = or += in (rows, padded) times `factor`.
template <class V>
void unpack_rows(const Tensor& y, int64_t b, int64_t h, int64_t begin, int64_t end, const float* in,
                 int64_t padded, float factor, bool accumulate) {
  const V f = V::set1(factor);
  by_type(y.dtype, [&](auto element) {
    using T = decltype(element);
    T* base = y.as<T>() + b * y.stride(0) + h * y.size(3);
    for (int64_t t = begin; t < end; ++t) {
      if (t + kRowsAhead < end)
        prefetch_row(base + (t + kRowsAhead) * y.stride(1),
                     y.size(3) * static_cast<int64_t>(sizeof(T)));
      for_groups(y.size(3), [&](int64_t d, auto lanes) {
        T* out = base + t * y.stride(1) + d;
        V value = V::load(in + (t - begin) * padded + d) * f;
        if (accumulate) value = value + load<V>(out, lanes);
        store(out, value, lanes);
      });
    }
  });
}

}  // namespace strait::cpu
