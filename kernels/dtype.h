// Element types and their sizes. bf16, f16 and f8_e4m3 are stored as their bits; conversion rounds to nearest even, NaN stays NaN.
// f16 and f8_e4m3 are for messages: few ops take them.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace strait {

enum class DType : uint8_t { f32, bf16, f64, i32, u16, u8, f16, f8_e4m3 };

constexpr size_t size_of(DType t) {
  switch (t) {
    case DType::f64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::u16:
    case DType::f16:
      return 2;
    case DType::u8:
    case DType::f8_e4m3:
      return 1;
  }
  return 0;
}

constexpr const char* name_of(DType t) {
  switch (t) {
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::f64:
      return "f64";
    case DType::i32:
      return "i32";
    case DType::u16:
      return "u16";
    case DType::u8:
      return "u8";
    case DType::f16:
      return "f16";
    case DType::f8_e4m3:
      return "f8_e4m3";
  }
  return "?";
}

// Of a computation; f16 and f8_e4m3 are types of storage only.
constexpr bool is_float(DType t) { return t == DType::f32 || t == DType::bf16 || t == DType::f64; }

// The type that statistics and accumulators of a computation in `t` use: f64 for f64, f32 otherwise.
constexpr DType statistics_of(DType t) { return t == DType::f64 ? DType::f64 : DType::f32; }

struct bfloat16 {
  uint16_t bits = 0;

  bfloat16() = default;
  explicit bfloat16(float f) {
    const auto u = std::bit_cast<uint32_t>(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) {
      bits = static_cast<uint16_t>((u >> 16) | 0x40u);
    } else {
      bits = static_cast<uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
    }
  }
  explicit operator float() const {
    return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16);
  }
};

// IEEE binary16. Beyond 65504 it is infinite.
struct float16 {
  uint16_t bits = 0;

  float16() = default;
  constexpr explicit float16(float f) {
    const auto u = std::bit_cast<uint32_t>(f);
    const uint32_t sign = (u >> 16) & 0x8000u, a = u & 0x7fffffffu;
    uint32_t magnitude = 0;
    if (a > 0x7f800000u) {
      magnitude = 0x7e00u;
    } else if (a >= 0x477ff000u) {  // 65520, the tie between 65504 and what is no more
      magnitude = 0x7c00u;
    } else if (a < 0x38800000u) {  // below 2^-14 in steps of 2^-24, the last place of 0.5
      magnitude = std::bit_cast<uint32_t>(std::bit_cast<float>(a) + 0.5f) - 0x3f000000u;
    } else {
      magnitude = (a + 0xfffu + ((a >> 13) & 1u) - 0x38000000u) >> 13;
    }
    bits = static_cast<uint16_t>(sign | magnitude);
  }
  constexpr explicit operator float() const {
    const uint32_t sign = (bits & 0x8000u) << 16, a = bits & 0x7fffu;
    if (a < 0x400u) {
      const float value = static_cast<float>(a) * 0x1p-24f;
      return sign != 0 ? -value : value;
    }
    const uint32_t magnitude =
        a >= 0x7c00u ? 0x7f800000u | (a & 0x3ffu) << 13 : (a << 13) + 0x38000000u;
    return std::bit_cast<float>(sign | magnitude);
  }
};

// FP8 E4M3 without infinities (Micikevicius et al., "FP8 formats for deep learning", arXiv 2209.05433): saturates at 448.
struct float8_e4m3 {
  uint8_t bits = 0;

  float8_e4m3() = default;
  static constexpr float8_e4m3 of(uint8_t bits) {
    float8_e4m3 x;
    x.bits = bits;
    return x;
  }
  constexpr explicit float8_e4m3(float f) {
    const auto u = std::bit_cast<uint32_t>(f);
    const uint32_t sign = (u >> 24) & 0x80u, a = u & 0x7fffffffu;
    uint32_t magnitude = 0;
    if (a > 0x7f800000u) {
      magnitude = 0x7fu;
    } else if (a >= 0x43e00000u) {
      magnitude = 0x7eu;
    } else if (a < 0x3c800000u) {  // below 2^-6 in steps of 2^-9, the last place of 2^14
      magnitude = std::bit_cast<uint32_t>(std::bit_cast<float>(a) + 16384.0f) - 0x46800000u;
    } else {
      magnitude = (a + 0x7ffffu + ((a >> 20) & 1u) - 0x3c000000u) >> 20;
    }
    bits = static_cast<uint8_t>(sign | magnitude);
  }
  constexpr explicit operator float() const {
    const uint32_t a = bits & 0x7fu;
    float value = static_cast<float>(a) * 0x1p-9f;
    if (a == 0x7fu)
      value = std::bit_cast<float>(0x7fc00000u);
    else if (a >= 8u)
      value = std::bit_cast<float>((a << 20) + 0x3c000000u);
    return (bits & 0x80u) != 0 ? -value : value;
  }
};

}  // namespace strait
