// Sixteen floats in two AVX2 registers: the operations of simd_avx512.h, with the same bits.
// Included by isa_avx2.cpp only, behind its target pragma.
#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels/dtype.h"

namespace strait::cpu {

struct Avx2 {
  static constexpr int kLanes = 16;
  // 6 x 1 accumulators of two registers each, 2 of B, 1 of A, of 16 registers.
  static constexpr int kTileRows = 6;
  static constexpr int kTileGroups = 1;

  __m256 low, high;

  static Avx2 zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  static Avx2 set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
  static Avx2 load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
  static Avx2 load(const bfloat16* p) { return {widen(p), widen(p + 8)}; }
  template <typename T>
  static Avx2 load_part(const T* p, int count) {
    T lanes[16] = {};
    std::memcpy(lanes, p, static_cast<size_t>(count) * sizeof(T));
    return load(lanes);
  }

  void store(float* p) const {
    _mm256_storeu_ps(p, low);
    _mm256_storeu_ps(p + 8, high);
  }
  void store(bfloat16* p) const {
    // packus works within 128-bit halves: put the quarters back in order.
    const __m256i packed = _mm256_packus_epi32(narrow(low), narrow(high));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm256_permute4x64_epi64(packed, 0xd8));
  }
  template <typename T>
  void store_part(T* p, int count) const {
    T lanes[16];
    store(lanes);
    std::memcpy(p, lanes, static_cast<size_t>(count) * sizeof(T));
  }

  static Avx2 where_at_most(const int32_t* p, int32_t bound, Avx2 x, Avx2 y) {
    const __m256i b = _mm256_set1_epi32(bound);  // greater: take y
    return {select(_mm256_cmpgt_epi32(load_integers(p), b), y.low, x.low),
            select(_mm256_cmpgt_epi32(load_integers(p + 8), b), y.high, x.high)};
  }
  static Avx2 where_equal(const int32_t* p, int32_t value, Avx2 x, Avx2 y) {
    const __m256i b = _mm256_set1_epi32(value);
    return {select(_mm256_cmpeq_epi32(load_integers(p), b), x.low, y.low),
            select(_mm256_cmpeq_epi32(load_integers(p + 8), b), x.high, y.high)};
  }

  float sum() const {
    const __m256 half = _mm256_add_ps(low, high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }
  float max() const {
    const __m256 half = _mm256_max_ps(low, high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }

  static void transpose(Avx2 (&rows)[16]) {
    __m256 corner[4][8];  // 8 x 8 blocks: upper left, upper right, lower left, lower right
    for (int i = 0; i < 8; ++i) {
      corner[0][i] = rows[i].low;
      corner[1][i] = rows[i].high;
      corner[2][i] = rows[i + 8].low;
      corner[3][i] = rows[i + 8].high;
    }
    for (auto& block : corner) transpose8(block);
    for (int i = 0; i < 8; ++i) {
      rows[i] = {corner[0][i], corner[2][i]};
      rows[i + 8] = {corner[1][i], corner[3][i]};
    }
  }

 private:
  static __m256i load_integers(const int32_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static __m256 select(__m256i mask, __m256 x, __m256 y) {
    return _mm256_blendv_ps(y, x, _mm256_castsi256_ps(mask));
  }
  static __m256 widen(const bfloat16* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  // Round to nearest even; the 16 bits of each result stand in the low half of a 32-bit lane.
  static __m256i narrow(__m256 x) {
    const __m256i u = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(u, _mm256_set1_epi32(0x400000));
    const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  }
  static void transpose8(__m256 (&r)[8]) {
    __m256 t[8], u[8];
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
      t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      for (int j = 0; j < 2; ++j) {
        u[i + 2 * j] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0x44);
        u[i + 2 * j + 1] = _mm256_shuffle_ps(t[i + j], t[i + j + 2], 0xee);
      }
    }
    for (int j = 0; j < 4; ++j) {
      r[j] = _mm256_permute2f128_ps(u[j], u[j + 4], 0x20);
      r[j + 4] = _mm256_permute2f128_ps(u[j], u[j + 4], 0x31);
    }
  }
};

inline Avx2 operator+(Avx2 a, Avx2 b) {
  return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
inline Avx2 operator-(Avx2 a, Avx2 b) {
  return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
inline Avx2 operator*(Avx2 a, Avx2 b) {
  return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
inline Avx2 operator/(Avx2 a, Avx2 b) {
  return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
inline Avx2 fma(Avx2 a, Avx2 b, Avx2 c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
inline Avx2 square_root(Avx2 a) { return {_mm256_sqrt_ps(a.low), _mm256_sqrt_ps(a.high)}; }
inline Avx2 larger(Avx2 a, Avx2 b) {
  return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
inline Avx2 where_less(Avx2 a, Avx2 b, Avx2 x, Avx2 y) {
  return {_mm256_blendv_ps(y.low, x.low, _mm256_cmp_ps(a.low, b.low, _CMP_LT_OQ)),
          _mm256_blendv_ps(y.high, x.high, _mm256_cmp_ps(a.high, b.high, _CMP_LT_OQ))};
}
inline __m256 power_of_two(__m256 shifted) {
  const __m256i exponent = _mm256_slli_epi32(_mm256_castps_si256(shifted), 23);
  return _mm256_castsi256_ps(_mm256_add_epi32(exponent, _mm256_set1_epi32(127 << 23)));
}
inline Avx2 power_of_two(Avx2 shifted) {
  return {power_of_two(shifted.low), power_of_two(shifted.high)};
}

}  // namespace strait::cpu
