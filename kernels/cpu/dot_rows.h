// Dot products of the rows of two matrices. Blocks of 4096 columns in sixteen lanes, the blocks of a row combined in order in f64.
#pragma once

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace strait::cpu {

template <class V>
void dot_rows(Tensor y, Tensor a, Tensor b, bool accumulate, int threads, Scratch& scratch) {
  constexpr int64_t kBlock = 4096;
  const int64_t N = a.size(0), C = a.size(1), blocks = chunks_of(C, kBlock);
  scratch.reserve(static_cast<size_t>(N * blocks) * sizeof(float));
  float* partial = scratch.of_thread<float>(0);
  by_type(a.dtype, [&](auto a_element) {
    by_type(b.dtype, [&](auto b_element) {
      parallel_for(threads, N * blocks, [&](int64_t i, int) {
        const int64_t n = i / blocks;
        const Range range = chunk_range(i % blocks, kBlock, C);
        const auto* left = a.as<const decltype(a_element)>() + n * C + range.begin;
        const auto* right = b.as<const decltype(b_element)>() + n * C + range.begin;
        V total = V::zero();
        for_groups(range.end - range.begin, [&](int64_t c, auto lanes) {
          total = fma(load<V>(left + c, lanes), load<V>(right + c, lanes), total);
        });
        partial[i] = total.sum();
      });
    });
  });
  for (int64_t n = 0; n < N; ++n) {
    float& out = y.as<float>()[n];
    double total = accumulate ? static_cast<double>(out) : 0.0;
    for (int64_t block = 0; block < blocks; ++block)
      total += static_cast<double>(partial[n * blocks + block]);
    out = static_cast<float>(total);
  }
}

}  // namespace strait::cpu
