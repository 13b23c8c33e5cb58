// Strong types for every quantity with a unit: virtual time, sizes, rates. A bare number never carries a unit
// (design, section 4). Integers throughout, so that sums are exact and runs are reproducible.
#pragma once

#include <compare>
#include <cstdint>
#include <limits>

namespace strait {

// A duration or a point of virtual time, in integer nanoseconds (int64: 292 years).
struct Nanoseconds {
  int64_t count = 0;

  static constexpr Nanoseconds max() { return {std::numeric_limits<int64_t>::max()}; }
  static constexpr Nanoseconds from_seconds(double s) {
    return {static_cast<int64_t>(s * 1e9 + (s < 0 ? -0.5 : 0.5))};
  }
  constexpr double seconds() const { return static_cast<double>(count) * 1e-9; }

  constexpr auto operator<=>(const Nanoseconds&) const = default;
  constexpr Nanoseconds& operator+=(Nanoseconds o) {
    count += o.count;
    return *this;
  }
  constexpr Nanoseconds& operator-=(Nanoseconds o) {
    count -= o.count;
    return *this;
  }
  friend constexpr Nanoseconds operator+(Nanoseconds a, Nanoseconds b) {
    return {a.count + b.count};
  }
  friend constexpr Nanoseconds operator-(Nanoseconds a, Nanoseconds b) {
    return {a.count - b.count};
  }
  friend constexpr Nanoseconds operator*(Nanoseconds a, int64_t k) { return {a.count * k}; }
};

// A size in bytes (8 bits each).
struct Bytes {
  uint64_t count = 0;

  constexpr auto operator<=>(const Bytes&) const = default;
  constexpr Bytes& operator+=(Bytes o) {
    count += o.count;
    return *this;
  }
  friend constexpr Bytes operator+(Bytes a, Bytes b) { return {a.count + b.count}; }
  friend constexpr Bytes operator-(Bytes a, Bytes b) { return {a.count - b.count}; }
};

// A rate in bits per second (decimal: 1 Mbps = 1,000,000).
struct BitsPerSecond {
  uint64_t count = 0;

  constexpr auto operator<=>(const BitsPerSecond&) const = default;
};

// How long `size` occupies a wire of `rate`, rounded up to the next nanosecond. Exact up to 2^63 ns; `rate` > 0.
constexpr Nanoseconds time_on_wire(Bytes size, BitsPerSecond rate) {
  __extension__ using Wide = unsigned __int128;
  const Wide bits = static_cast<Wide>(size.count) * 8u * 1000000000u;
  return {static_cast<int64_t>((bits + rate.count - 1) / rate.count)};
}

}  // namespace strait
