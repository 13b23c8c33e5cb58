// Sixteen floats in an array: the operations of simd_avx512.h in plain C++, with the same bits, for
// every other machine. Slow where the hardware has no fused multiply-add.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>

#include "kernels/dtype.h"

namespace strait::cpu {

struct Portable {
  static constexpr int kLanes = 16;
  static constexpr int kTileRows = 4;
  static constexpr int kTileGroups = 1;

  float x[16];

  // Lane i is f(i).
  template <typename F>
  static Portable each(const F& f) {
    Portable y;
    for (int i = 0; i < 16; ++i) y.x[i] = f(i);
    return y;
  }

  static Portable zero() { return {}; }
  static Portable set1(float value) {
    return each([&](int) { return value; });
  }
  static Portable load(const float* p) {
    return each([&](int i) { return p[i]; });
  }
  static Portable load(const bfloat16* p) {
    return each([&](int i) { return static_cast<float>(p[i]); });
  }
  template <typename T>
  static Portable load_part(const T* p, int count) {
    return each([&](int i) { return i < count ? static_cast<float>(p[i]) : 0.0f; });
  }

  template <typename T>
  void store(T* p) const {
    store_part(p, 16);
  }
  template <typename T>
  void store_part(T* p, int count) const {
    for (int i = 0; i < count; ++i) p[i] = T(x[i]);
  }

  static Portable where_at_most(const int32_t* p, int32_t bound, const Portable& then,
                                const Portable& otherwise) {
    return each([&](int i) { return p[i] <= bound ? then.x[i] : otherwise.x[i]; });
  }
  static Portable where_equal(const int32_t* p, int32_t value, const Portable& then,
                              const Portable& otherwise) {
    return each([&](int i) { return p[i] == value ? then.x[i] : otherwise.x[i]; });
  }

  float sum() const {
    return tree([](float a, float b) { return a + b; });
  }
  float max() const {
    return tree([](float a, float b) { return a > b ? a : b; });
  }

  static void transpose(Portable (&rows)[16]) {
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < i; ++j) std::swap(rows[i].x[j], rows[j].x[i]);
  }

 private:
  template <typename F>
  float tree(const F& combine) const {
    Portable y = *this;
    for (int width = 8; width >= 1; width /= 2)
      for (int i = 0; i < width; ++i) y.x[i] = combine(y.x[i], y.x[i + width]);
    return y.x[0];
  }
};

inline Portable operator+(const Portable& a, const Portable& b) {
  return Portable::each([&](int i) { return a.x[i] + b.x[i]; });
}
inline Portable operator-(const Portable& a, const Portable& b) {
  return Portable::each([&](int i) { return a.x[i] - b.x[i]; });
}
inline Portable operator*(const Portable& a, const Portable& b) {
  return Portable::each([&](int i) { return a.x[i] * b.x[i]; });
}
inline Portable operator/(const Portable& a, const Portable& b) {
  return Portable::each([&](int i) { return a.x[i] / b.x[i]; });
}
inline Portable fma(const Portable& a, const Portable& b, const Portable& c) {
  return Portable::each([&](int i) { return std::fma(a.x[i], b.x[i], c.x[i]); });
}
inline Portable square_root(const Portable& a) {
  return Portable::each([&](int i) { return std::sqrt(a.x[i]); });
}
inline Portable larger(const Portable& a, const Portable& b) {
  return Portable::each([&](int i) { return a.x[i] > b.x[i] ? a.x[i] : b.x[i]; });
}
inline Portable where_less(const Portable& a, const Portable& b, const Portable& then,
                           const Portable& otherwise) {
  return Portable::each([&](int i) { return a.x[i] < b.x[i] ? then.x[i] : otherwise.x[i]; });
}
inline Portable power_of_two(const Portable& shifted) {
  return Portable::each([&](int i) {
    return std::bit_cast<float>((std::bit_cast<uint32_t>(shifted.x[i]) << 23) + (127u << 23));
  });
}

}  // namespace strait::cpu
