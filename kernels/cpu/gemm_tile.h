// The small matrix products inside attention: C (+)= A B with B's rows in groups of sixteen
// columns. A register tile of kTileRows x (16 kTileGroups) results stays in registers while k runs;
// one element of A is broadcast per row and k, so A may have any two strides, and a transposed A
// costs nothing. Every element of C is one chain of fma in ascending k, whatever the tiling: the
// same bits for every tile shape and instruction set.
#pragma once

#include <cstdint>
#include <utility>

namespace strait::cpu {

struct TileOperand {
  const float* data;
  int64_t row_stride;
  int64_t k_stride;
};

template <class V, int kRows, int kGroups>
void gemm_tile(float* c, int64_t ldc, TileOperand a, const float* b, int64_t ldb, int64_t K,
               bool accumulate) {
  V sums[kRows][kGroups];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g)
      sums[r][g] = accumulate ? V::load(c + r * ldc + 16 * g) : V::zero();
  for (int64_t k = 0; k < K; ++k) {
    V columns[kGroups];
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) columns[g] = V::load(b + k * ldb + 16 * g);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const V element = V::set1(a.data[r * a.row_stride + k * a.k_stride]);
#pragma GCC unroll 4
      for (int g = 0; g < kGroups; ++g) sums[r][g] = fma(element, columns[g], sums[r][g]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
    for (int g = 0; g < kGroups; ++g) sums[r][g].store(c + r * ldc + 16 * g);
}

// Picks the tile of `rows` in [1, kTileRows] by `groups` in [1, kTileGroups].
template <class V, int kRows = V::kTileRows, int kGroups = V::kTileGroups>
void gemm_tile_of(int64_t rows, int64_t groups, float* c, int64_t ldc, TileOperand a,
                  const float* b, int64_t ldb, int64_t K, bool accumulate) {
  if constexpr (kRows > 1)
    if (rows < kRows)
      return gemm_tile_of<V, kRows - 1, kGroups>(rows, groups, c, ldc, a, b, ldb, K, accumulate);
  if constexpr (kGroups > 1)
    if (groups < kGroups)
      return gemm_tile_of<V, kRows, kGroups - 1>(rows, groups, c, ldc, a, b, ldb, K, accumulate);
  gemm_tile<V, kRows, kGroups>(c, ldc, a, b, ldb, K, accumulate);
}

// c (rows, 16 groups) (+)= a (rows, K) b (K, 16 groups), rows <= kTileRows.
template <class V>
void gemm_row_tile(int64_t rows, int64_t groups, float* c, int64_t ldc, TileOperand a,
                   const float* b, int64_t ldb, int64_t K, bool accumulate) {
  for (int64_t g = 0; g < groups; g += V::kTileGroups) {
    const int64_t width = groups - g < V::kTileGroups ? groups - g : V::kTileGroups;
    gemm_tile_of<V>(rows, width, c + 16 * g, ldc, a, b + 16 * g, ldb, K, accumulate);
  }
}

}  // namespace strait::cpu
