// Sixteen floats in one AVX-512 register. The three simd_*.h files offer the same operations with
// the same results, bit for bit: every sum over lanes is the tree (i, i+8), (i, i+4), (i, i+2), (i,
// i+1), and a fused multiply-add rounds once. Included by isa_avx512.cpp only, behind its target
// pragma.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "kernels/dtype.h"

namespace strait::cpu {

struct Avx512 {
  static constexpr int kLanes = 16;
  // Rows and lane groups of a register tile in gemm_tile.h: 6 x 4 accumulators, 4 of B, 1 of A, of
  // 32 registers.
  static constexpr int kTileRows = 6;
  static constexpr int kTileGroups = 4;

  __m512 v;

  static Avx512 zero() { return {_mm512_setzero_ps()}; }
  static Avx512 set1(float x) { return {_mm512_set1_ps(x)}; }
  static Avx512 load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static Avx512 load(const bfloat16* p) {
    return widen(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  // The first `count` < 16 elements; the other lanes are 0.
  static Avx512 load_part(const float* p, int count) {
    return {_mm512_maskz_loadu_ps(first(count), p)};
  }
  static Avx512 load_part(const bfloat16* p, int count) {
    return widen(_mm256_maskz_loadu_epi16(first(count), p));
  }

  void store(float* p) const { _mm512_storeu_ps(p, v); }
  void store(bfloat16* p) const { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), narrow(v)); }
  void store_part(float* p, int count) const { _mm512_mask_storeu_ps(p, first(count), v); }
  void store_part(bfloat16* p, int count) const {
    _mm256_mask_storeu_epi16(p, first(count), narrow(v));
  }

  // p[lane] <= bound ? x : y, and p[lane] == value ? x : y.
  static Avx512 where_at_most(const int32_t* p, int32_t bound, Avx512 x, Avx512 y) {
    return {_mm512_mask_blend_ps(
        _mm512_cmp_epi32_mask(_mm512_loadu_si512(p), _mm512_set1_epi32(bound), _MM_CMPINT_LE), y.v,
        x.v)};
  }
  static Avx512 where_equal(const int32_t* p, int32_t value, Avx512 x, Avx512 y) {
    return {_mm512_mask_blend_ps(
        _mm512_cmpeq_epi32_mask(_mm512_loadu_si512(p), _mm512_set1_epi32(value)), y.v, x.v)};
  }

  float sum() const {
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    four = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(four, _mm_movehdup_ps(four)));
  }
  float max() const {
    __m256 half = _mm256_max_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    four = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(four, _mm_movehdup_ps(four)));
  }

  // rows[i] lane j <-> rows[j] lane i.
  static void transpose(Avx512 (&rows)[16]) {
    __m512 t[16];
    for (int i = 0; i < 16; i += 2) {  // pairs of lanes
      t[i] = _mm512_unpacklo_ps(rows[i].v, rows[i + 1].v);
      t[i + 1] = _mm512_unpackhi_ps(rows[i].v, rows[i + 1].v);
    }
    __m512 u[16];
    for (int i = 0; i < 16; i += 4) {  // 4 x 4 blocks
      for (int j = 0; j < 2; ++j) {
        const __m512d low = _mm512_castps_pd(t[i + j]), high = _mm512_castps_pd(t[i + j + 2]);
        u[i + 2 * j] = _mm512_castpd_ps(_mm512_unpacklo_pd(low, high));
        u[i + 2 * j + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low, high));
      }
    }
    for (int j = 0; j < 4; ++j) {  // 128-bit lanes
      const __m512 a = _mm512_shuffle_f32x4(u[j], u[j + 4], 0x88),
                   b = _mm512_shuffle_f32x4(u[j + 8], u[j + 12], 0x88);
      const __m512 c = _mm512_shuffle_f32x4(u[j], u[j + 4], 0xdd),
                   d = _mm512_shuffle_f32x4(u[j + 8], u[j + 12], 0xdd);
      rows[j].v = _mm512_shuffle_f32x4(a, b, 0x88);
      rows[j + 4].v = _mm512_shuffle_f32x4(c, d, 0x88);
      rows[j + 8].v = _mm512_shuffle_f32x4(a, b, 0xdd);
      rows[j + 12].v = _mm512_shuffle_f32x4(c, d, 0xdd);
    }
  }

 private:
  static __mmask16 first(int count) { return static_cast<__mmask16>((1u << count) - 1u); }
  static Avx512 widen(__m256i bits) {
    return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16))};
  }
  // Round to nearest even in integers, as bfloat16 does (the bf16 instructions would flush small
  // numbers).
  static __m256i narrow(__m512 x) {
    const __m512i u = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(u, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(u, _mm512_set1_epi32(0x400000));
    const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    return _mm512_cvtepi32_epi16(
        _mm512_srli_epi32(_mm512_mask_blend_epi32(nan, rounded, quiet), 16));
  }
};

inline Avx512 operator+(Avx512 a, Avx512 b) { return {_mm512_add_ps(a.v, b.v)}; }
inline Avx512 operator-(Avx512 a, Avx512 b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline Avx512 operator*(Avx512 a, Avx512 b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline Avx512 operator/(Avx512 a, Avx512 b) { return {_mm512_div_ps(a.v, b.v)}; }
// a * b + c, rounded once.
inline Avx512 fma(Avx512 a, Avx512 b, Avx512 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline Avx512 square_root(Avx512 a) { return {_mm512_sqrt_ps(a.v)}; }
// a > b ? a : b in each lane.
inline Avx512 larger(Avx512 a, Avx512 b) { return {_mm512_max_ps(a.v, b.v)}; }
// a < b ? x : y in each lane; false for NaN.
inline Avx512 where_less(Avx512 a, Avx512 b, Avx512 x, Avx512 y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_LT_OQ), y.v, x.v)};
}
// 2^n for the integer n that `shifted` = n + 1.5 * 2^23 holds in its low bits, -126 <= n <= 127.
inline Avx512 power_of_two(Avx512 shifted) {
  const __m512i exponent = _mm512_slli_epi32(_mm512_castps_si512(shifted.v), 23);
  return {_mm512_castsi512_ps(_mm512_add_epi32(exponent, _mm512_set1_epi32(127 << 23)))};
}

}  // namespace strait::cpu
