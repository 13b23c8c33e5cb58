// The twin of kernels/cuda/mma.cuh, from the same pages of the PTX manual: fragments go through the warp's meeting place.
// Asynchronous copies land when they are waited for and not before, so that a missing wait shows.
#pragma once

#include <cuda_bf16.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#include "tests/gpu/on_host/grid.h"

namespace strait {

inline float low_half(uint32_t pair) { return __uint_as_float(pair << 16); }
inline float high_half(uint32_t pair) { return __uint_as_float(pair & 0xffff0000u); }

inline void mma_m16n8k16(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  struct Fragments {
    uint32_t a[4], b[2];
  };
  const auto all = cuda_on_host::all_lanes(Fragments{{a[0], a[1], a[2], a[3]}, {b0, b1}});
  const auto element_a = [&](unsigned row, unsigned k) {
    const uint32_t pair = all[row % 8 * 4 + k % 8 / 2].a[row / 8 + k / 8 * 2];
    return k % 2 == 0 ? low_half(pair) : high_half(pair);
  };
  const auto element_b = [&](unsigned k, unsigned column) {
    const uint32_t pair = all[column * 4 + k % 8 / 2].b[k / 8];
    return k % 2 == 0 ? low_half(pair) : high_half(pair);
  };
  const unsigned l = cuda_on_host::lane();
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned row = l / 4 + i / 2 * 8, column = 2 * (l % 4) + i % 2;
    for (unsigned k = 0; k < 16; ++k) c[i] += element_a(row, k) * element_b(k, column);
  }
}

inline void load_matrices_as(uint32_t (&r)[4], const void* row, bool transposed) {
  const auto rows = cuda_on_host::all_lanes(static_cast<const uint16_t*>(row));
  const unsigned l = cuda_on_host::lane();
  for (unsigned i = 0; i < 4; ++i) {
    uint32_t pair[2];
    for (unsigned j = 0; j < 2; ++j)
      pair[j] =
          transposed ? rows[8 * i + 2 * (l % 4) + j][l / 4] : rows[8 * i + l / 4][2 * (l % 4) + j];
    r[i] = pair[0] | pair[1] << 16;
  }
}
inline void load_matrices(uint32_t (&r)[4], const void* row) { load_matrices_as(r, row, false); }
inline void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  load_matrices_as(r, row, true);
}

inline void copy_async_16(void* shared, const void* global, bool valid) {
  cuda_on_host::copy_later(shared, valid ? global : nullptr, 16);
}
inline void commit_copies() { cuda_on_host::commit_copies(); }
template <int kPending>
void wait_for_copies() {
  cuda_on_host::wait_for_copies(kPending);
}

inline float exp2_approximate(float x) { return x < -126.0f ? 0.0f : std::exp2(x); }

inline uint32_t pack_bf16(float low, float high) {
  return __float2bfloat16_rn(low).bits | static_cast<uint32_t>(__float2bfloat16_rn(high).bits)
                                             << 16;
}

}  // namespace strait
