// Element-wise ops and reductions over flat buffers, in chunks of 16,384 elements. One pass over
// memory each. sum and sum_squares: blocks of 4096 elements in sixteen lanes, the blocks combined
// in order in f64.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/cpu/codec.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/plain.h"

namespace strait::cpu {

// body(begin, end) over chunks of [0, n).
template <class Body>
void for_chunks(int threads, int64_t n, const Body& body) {
  parallel_for(threads, chunks_of(n, kChunkElements), [&](int64_t chunk, int) {
    const Range range = chunk_range(chunk, kChunkElements, n);
    body(range.begin, range.end);
  });
}

template <class V>
void add(Tensor y, Tensor a, Tensor b, int threads) {
  by_type(y.dtype, [&](auto element) {
    using T = decltype(element);
    for_chunks(threads, y.elements(), [&](int64_t begin, int64_t end) {
      T* out = y.as<T>() + begin;
      const T *left = a.as<const T>() + begin, *right = b.as<const T>() + begin;
      for_groups(end - begin, [&](int64_t i, auto lanes) {
        store(out + i, load<V>(left + i, lanes) + load<V>(right + i, lanes), lanes);
      });
    });
  });
}

template <class V>
void axpy(Tensor y, double alpha, Tensor x, int threads) {
  const V factor = V::set1(static_cast<float>(alpha));
  by_type(y.dtype, [&](auto y_element) {
    by_type(x.dtype, [&](auto x_element) {
      for_chunks(threads, y.elements(), [&](int64_t begin, int64_t end) {
        auto* out = y.as<decltype(y_element)>() + begin;
        const auto* in = x.as<const decltype(x_element)>() + begin;
        for_groups(end - begin, [&](int64_t i, auto lanes) {
          store(out + i, fma(factor, load<V>(in + i, lanes), load<V>(out + i, lanes)), lanes);
        });
      });
    });
  });
}

template <class V>
void scale(Tensor y, double alpha, int threads) {
  const V factor = V::set1(static_cast<float>(alpha));
  by_type(y.dtype, [&](auto element) {
    for_chunks(threads, y.elements(), [&](int64_t begin, int64_t end) {
      auto* out = y.as<decltype(element)>() + begin;
      for_groups(end - begin, [&](int64_t i, auto lanes) {
        store(out + i, load<V>(out + i, lanes) * factor, lanes);
      });
    });
  });
}

template <class V>
void combine(Tensor y, double alpha, Tensor x, double beta, Tensor z, int threads) {
  const V of_x = V::set1(static_cast<float>(alpha)), of_z = V::set1(static_cast<float>(beta));
  by_type(y.dtype, [&](auto element) {
    by_type(z.dtype, [&](auto z_element) {
      for_chunks(threads, y.elements(), [&](int64_t begin, int64_t end) {
        auto* out = y.as<decltype(element)>() + begin;
        const auto* in = x.as<const decltype(element)>() + begin;
        if (!z.defined()) {
          for_groups(end - begin, [&](int64_t i, auto lanes) {
            store(out + i, of_x * load<V>(in + i, lanes), lanes);
          });
          return;
        }
        const auto* other = z.as<const decltype(z_element)>() + begin;
        for_groups(end - begin, [&](int64_t i, auto lanes) {
          store(out + i, fma(of_x, load<V>(in + i, lanes), of_z * load<V>(other + i, lanes)),
                lanes);
        });
      });
    });
  });
}

template <class V>
void normalise(Tensor y, Tensor x, Tensor sum_squares, double factor, double eps, int threads) {
  const auto norm = static_cast<float>(factor * std::sqrt(*sum_squares.as<const double>()) + eps);
  const V divisor = V::set1(norm);
  by_type(y.dtype, [&](auto element) {
    for_chunks(threads, y.elements(), [&](int64_t begin, int64_t end) {
      auto* out = y.as<decltype(element)>() + begin;
      const auto* in = x.as<const decltype(element)>() + begin;
      for_groups(end - begin, [&](int64_t i, auto lanes) {
        store(out + i, norm == 0 ? V::zero() : load<V>(in + i, lanes) / divisor, lanes);
      });
    });
  });
}

// Token ids between i32 and u16: a few bytes a token, so plain loops.
inline void cast_ids(Tensor y, Tensor x) {
  const auto copy = [&](auto y_element, auto x_element) {
    const int64_t C = y.size(-1), N = y.elements() / std::max<int64_t>(C, 1);
    for (int64_t n = 0; n < N; ++n) {
      auto* out = y.as<decltype(y_element)>() + row_offset(y, n);
      const auto* in = x.as<const decltype(x_element)>() + row_offset(x, n);
      for (int64_t c = 0; c < C; ++c) out[c] = static_cast<decltype(y_element)>(in[c]);
    }
  };
  const auto from = [&](auto y_element) {
    x.dtype == DType::i32 ? copy(y_element, int32_t{}) : copy(y_element, uint16_t{});
  };
  y.dtype == DType::i32 ? from(int32_t{}) : from(uint16_t{});
}

template <class V>
void cast(Tensor y, Tensor x, int threads) {
  if (x.dtype == DType::f16 || y.dtype == DType::f16) return cast_half(y, x, threads);
  if (!is_float(x.dtype)) return cast_ids(y, x);
  if (y.contiguous() && x.contiguous()) {  // one long array, cut into rows of a chunk each
    by_type(y.dtype, [&](auto y_element) {
      by_type(x.dtype, [&](auto x_element) {
        for_chunks(threads, y.elements(), [&](int64_t begin, int64_t end) {
          auto* out = y.as<decltype(y_element)>() + begin;
          const auto* in = x.as<const decltype(x_element)>() + begin;
          for_groups(end - begin,
                     [&](int64_t i, auto lanes) { store(out + i, load<V>(in + i, lanes), lanes); });
        });
      });
    });
    return;
  }
  by_type(y.dtype, [&](auto y_element) {
    by_type(x.dtype, [&](auto x_element) {
      const int64_t C = y.size(-1), N = y.elements() / C, rows = rows_per_chunk(C);
      parallel_for(threads, chunks_of(N, rows), [&](int64_t chunk, int) {
        const Range range = chunk_range(chunk, rows, N);
        for (int64_t n = range.begin; n < range.end; ++n) {
          auto* out = y.as<decltype(y_element)>() + row_offset(y, n);
          const auto* in = x.as<const decltype(x_element)>() + row_offset(x, n);
          for_groups(C,
                     [&](int64_t c, auto lanes) { store(out + c, load<V>(in + c, lanes), lanes); });
        }
      });
    });
  });
}

template <class V>
void fill(Tensor y, double value, int threads) {
  if (y.dtype == DType::i32) {
    std::fill_n(y.as<int32_t>(), y.elements(), static_cast<int32_t>(value));
    return;
  }
  const V lanes_of_value = V::set1(static_cast<float>(value));
  by_type(y.dtype, [&](auto element) {
    for_chunks(threads, y.elements(), [&](int64_t begin, int64_t end) {
      auto* out = y.as<decltype(element)>() + begin;
      for_groups(end - begin,
                 [&](int64_t i, auto lanes) { store(out + i, lanes_of_value, lanes); });
    });
  });
}

// out = sum of map(x) over all elements.
template <class V, class Map>
void reduce(Tensor out, Tensor x, const Map& map, int threads, Scratch& scratch) {
  constexpr int64_t kBlock = 4096;
  const int64_t n = x.elements(), blocks = chunks_of(n, kBlock);
  scratch.reserve(static_cast<size_t>(blocks) * sizeof(float));
  float* partial = scratch.of_thread<float>(0);
  by_type(x.dtype, [&](auto element) {
    using T = decltype(element);
    parallel_for(threads, blocks, [&](int64_t block, int) {
      const Range range = chunk_range(block, kBlock, n);
      const T* in = x.as<const T>() + range.begin;
      V total = V::zero();
      for_groups(range.end - range.begin,
                 [&](int64_t i, auto lanes) { total = total + map(load<V>(in + i, lanes)); });
      partial[block] = total.sum();
    });
  });
  double total = 0;
  for (int64_t block = 0; block < blocks; ++block) total += static_cast<double>(partial[block]);
  if (out.dtype == DType::f64)
    *out.as<double>() = total;
  else
    *out.as<float>() = static_cast<float>(total);
}

}  // namespace strait::cpu
