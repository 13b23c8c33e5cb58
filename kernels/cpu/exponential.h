// exp(x) in sixteen lanes: x = n ln 2 + r with |r| <= ln 2 / 2, exp(x) = 2^n (1 + r + r^2 q(r)), q
// a Chebyshev interpolant of degree 4 (approximation error 1.1e-8). Relative error < 1.2e-7 in
// [-87, 88] (measured over that range by a test); 0 below, infinity above, NaN stays NaN. Only +, *
// and fma, so every instruction set gives the same bits.
#pragma once

#include <limits>

namespace strait::cpu {

template <class V>
V exponential(V x) {
  constexpr float kLowest = -87.0f, kHighest = 88.0f;
  // Adding 1.5 * 2^23 rounds to an integer, which then stands in the low bits.
  const V shift = V::set1(12582912.0f);
  const V shifted = fma(x, V::set1(1.44269504f), shift);
  const V n = shifted - shift;
  // ln 2 in two parts; the first has 9 bits, so n times it is exact.
  V r = fma(n, V::set1(-0.69140625f), x);
  r = fma(n, V::set1(-0.00174093060195f), r);
  V q = fma(V::set1(0x1.6d110ap-10f), r, V::set1(0x1.120b6ep-7f));
  q = fma(q, r, V::set1(0x1.55551ap-5f));
  q = fma(q, r, V::set1(0x1.5554dcp-3f));
  q = fma(q, r, V::set1(0.5f));
  const V one_plus = V::set1(1.0f) + fma(q, r * r, r);
  V y = one_plus * power_of_two(shifted);
  y = where_less(x, V::set1(kLowest), V::zero(), y);
  return where_less(V::set1(kHighest), x, V::set1(std::numeric_limits<float>::infinity()), y);
}

}  // namespace strait::cpu
