// One number to one code (kernels/backend.h, quantize_rows): the same f32 operations on the host and on a device, each rounded once, so
// the same bits. Neither side contracts products and sums.
#pragma once

#include <bit>
#include <cstdint>

#include "kernels/backend.h"

namespace strait {

constexpr float largest_code(Quantization kind) {
  return kind == Quantization::int8 ? 127.0f : kind == Quantization::int4 ? 7.0f : 448.0f;
}

// Orders magnitudes like the numbers, NaN above infinity.
constexpr uint32_t magnitude_bits(float x) { return std::bit_cast<uint32_t>(x) & 0x7fffffffu; }
constexpr uint32_t kInfinityBits = 0x7f800000u;

// The scale of a group whose largest magnitude has the bits `largest`, as bf16 holds it; NaN where that is not finite.
constexpr float scale_of(uint32_t largest, float limit) {
  if (largest >= kInfinityBits) return std::bit_cast<float>(0x7fc00000u);
  const auto bits = std::bit_cast<uint32_t>(std::bit_cast<float>(largest) / limit);
  return std::bit_cast<float>((bits + 0xffffu) & 0xffff0000u);
}

// x / scale in [-limit, limit]; 0 where the scale is 0 or NaN.
constexpr float scaled(float x, float scale, float limit) {
  if (!(scale > 0.0f)) return 0.0f;
  const float v = x / scale;
  return v > limit ? limit : v < -limit ? -limit : v;
}

// |v| < 2^22: adding 1.5 * 2^23 leaves no room for a fraction.
constexpr float nearest_whole(float v) { return (v + 12582912.0f) - 12582912.0f; }

// `word`: 32 uniform bits.
constexpr float stochastic_whole(float v, uint32_t word) {
  const float whole = nearest_whole(v), floor = whole > v ? whole - 1.0f : whole;
  const float u = static_cast<float>(word >> 8) * 0x1p-24f;
  return u < v - floor ? floor + 1.0f : floor;
}

// The bits of a code, 8 or the low 4.
constexpr uint8_t code_bits(float whole, Quantization kind) {
  const auto byte = static_cast<uint8_t>(static_cast<int8_t>(static_cast<int>(whole)));
  return kind == Quantization::int4 ? static_cast<uint8_t>(byte & 0x0fu) : byte;
}
constexpr float int8_code(uint8_t bits) { return static_cast<float>(static_cast<int8_t>(bits)); }
constexpr float int4_code(unsigned bits) {
  return static_cast<float>(static_cast<int>((bits & 0x0fu) ^ 8u) - 8);
}

}  // namespace strait
