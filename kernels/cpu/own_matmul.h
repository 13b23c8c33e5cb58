// The matrix product without oneDNN, for machines or shapes where it has no kernel whose rows are
// independent of each other. Built on gemm_tile.h: every element of y is one chain of fma over k in
// ascending order, in f32 (bf16 operands are widened, which is exact), so neither the split of rows
// nor the instruction set changes a bit.
//
// Blocks: 96 rows of y by one panel of kTileGroups groups of columns; b's panel is packed 256 deep
// to stay in cache.
#pragma once

#include <algorithm>

#include "kernels/cpu/gemm_tile.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/transpose.h"

namespace strait::cpu {

template <class V>
class OwnMatmul {
 public:
  explicit OwnMatmul(int threads) : threads_(threads), scratch_(threads) {}

  void multiply(Tensor y, Tensor a, bool transpose_a, Tensor b, bool transpose_b, bool accumulate) {
    const int64_t M = y.size(0), N = y.size(1), K = a.size(transpose_a ? 0 : 1);
    scratch_.reserve(static_cast<size_t>(kRows * kColumns + kDepth * kColumns + kRows * K) *
                     sizeof(float));
    parallel_for(threads_, chunks_of(M, kRows), [&](int64_t chunk, int thread) {
      const Range rows = chunk_range(chunk, kRows, M);
      float* sums = scratch_.template of_thread<float>(thread);  // (rows, kColumns)
      float* panel = sums + kRows * kColumns;                    // (kDepth, kColumns)
      float* left = panel + kDepth * kColumns;                   // (rows, K)
      copy_left(left, a, transpose_a, rows, K);
      for (int64_t n = 0; n < N; n += kColumns) {
        const int64_t width = std::min(kColumns, N - n), groups = chunks_of(width, 16);
        load_sums(sums, y, rows, n, width, accumulate);
        for (int64_t k = 0; k < K; k += kDepth) {
          const int64_t depth = std::min(kDepth, K - k);
          pack_panel(panel, b, transpose_b, k, depth, n, width);
          for (int64_t m = 0; m < rows.end - rows.begin; m += V::kTileRows)
            gemm_row_tile<V>(std::min<int64_t>(V::kTileRows, rows.end - rows.begin - m), groups,
                             sums + m * kColumns, kColumns, {left + m * K + k, K, 1}, panel,
                             kColumns, depth, true);
        }
        store_sums(y, sums, rows, n, width);
      }
    });
  }

 private:
  static constexpr int64_t kRows = 96;
  static constexpr int64_t kDepth = 256;
  static constexpr int64_t kColumns = 16 * V::kTileGroups;

  static void copy_left(float* out, const Tensor& a, bool transposed, Range rows, int64_t K) {
    by_type(a.dtype, [&](auto element) {
      using T = decltype(element);
      const int64_t stride = a.stride(0);
      if (transposed)
        return transpose<V>(out, K, a.as<const T>() + rows.begin, stride, K, rows.end - rows.begin);
      for (int64_t m = rows.begin; m < rows.end; ++m)
        for_groups(K, [&](int64_t k, auto lanes) {
          store(out + (m - rows.begin) * K + k, load<V>(a.as<const T>() + m * stride + k, lanes),
                lanes);
        });
    });
  }

  // panel (depth, kColumns) = op(b)[k, n) with 0 behind the last column.
  static void pack_panel(float* panel, const Tensor& b, bool transposed, int64_t k, int64_t depth,
                         int64_t n, int64_t width) {
    if (width < kColumns) std::fill_n(panel, depth * kColumns, 0.0f);
    by_type(b.dtype, [&](auto element) {
      using T = decltype(element);
      const int64_t stride = b.stride(0);
      if (transposed)
        return transpose<V>(panel, kColumns, b.as<const T>() + n * stride + k, stride, width,
                            depth);
      for (int64_t i = 0; i < depth; ++i)
        for_groups(width, [&](int64_t j, auto lanes) {
          store(panel + i * kColumns + j,
                load<V>(b.as<const T>() + (k + i) * stride + n + j, lanes), lanes);
        });
    });
  }

  static void load_sums(float* sums, const Tensor& y, Range rows, int64_t n, int64_t width,
                        bool accumulate) {
    std::fill_n(sums, kRows * kColumns, 0.0f);
    if (!accumulate) return;
    by_type(y.dtype, [&](auto element) {
      using T = decltype(element);
      for (int64_t m = rows.begin; m < rows.end; ++m)
        for_groups(width, [&](int64_t j, auto lanes) {
          store(sums + (m - rows.begin) * kColumns + j,
                load<V>(y.as<const T>() + m * y.stride(0) + n + j, lanes), lanes);
        });
    });
  }

  static void store_sums(const Tensor& y, const float* sums, Range rows, int64_t n, int64_t width) {
    by_type(y.dtype, [&](auto element) {
      using T = decltype(element);
      for (int64_t m = rows.begin; m < rows.end; ++m)
        for_groups(width, [&](int64_t j, auto lanes) {
          store(y.as<T>() + m * y.stride(0) + n + j,
                load<V>(sums + (m - rows.begin) * kColumns + j, lanes), lanes);
        });
    });
  }

  int threads_;
  Scratch scratch_;
};

}  // namespace strait::cpu
