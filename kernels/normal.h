// The inverse of the standard normal distribution function, applied to a counter-based uniform
// (kernels/rng.h). Three rational approximations: one for the middle, one for both tails (P. J.
// Acklam, 2003). The logarithm of the tails is spelled out and the square root comes from the
// caller, so that host and device run the same operations: same bits.
#pragma once

#include <bit>
#include <cstdint>

namespace strait {

// ln x for a normal positive x: x = 2^e * m with m in [sqrt(1/2), sqrt(2)), and
// ln m = 2 artanh(s) = 2 s (1 + s^2/3 + s^4/5 + ...), s = (m-1)/(m+1), |s| < 0.172: twelve terms
// reach 1e-17.
constexpr double natural_log(double x) {
  const auto bits = std::bit_cast<uint64_t>(x);
  auto exponent = static_cast<int>(bits >> 52) - 1023;
  auto m = std::bit_cast<double>((bits & 0x000fffffffffffffull) | 0x3ff0000000000000ull);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    exponent += 1;
  }
  const double s = (m - 1.0) / (m + 1.0);
  const double square = s * s;
  double series = 0.0;
  for (int odd = 23; odd >= 1; odd -= 2) series = series * square + 1.0 / odd;
  return exponent * 0.69314718055994530942 + 2.0 * s * series;
}

constexpr double inverse_normal_middle(double p) {
  const double q = p - 0.5, r = q * q;
  const double numerator =
      ((((-3.969683028665376e+01 * r + 2.209460984245205e+02) * r - 2.759285104469687e+02) * r +
        1.383577518672690e+02) *
           r -
       3.066479806614716e+01) *
          r +
      2.506628277459239e+00;
  const double denominator =
      ((((-5.447609879822406e+01 * r + 1.615858368580409e+02) * r - 1.556989798598866e+02) * r +
        6.680131188771972e+01) *
           r -
       1.328068155288572e+01) *
          r +
      1.0;
  return numerator * q / denominator;
}

// The lower tail, p < 0.02425, from q = sqrt(-2 ln p); negative.
constexpr double inverse_normal_tail(double q) {
  const double numerator =
      ((((-7.784894002430293e-03 * q - 3.223964580411365e-01) * q - 2.400758277161838e+00) * q -
        2.549732539343734e+00) *
           q +
       4.374664141464968e+00) *
          q +
      2.938163982698783e+00;
  const double denominator =
      (((7.784695709041462e-03 * q + 3.224671290700398e-01) * q + 2.445134137142996e+00) * q +
       3.754408661907416e+00) *
          q +
      1.0;
  return numerator / denominator;
}

// The standard normal value of a uniform 64-bit word. `square_root` is the correctly rounded one of
// the side that calls.
template <typename SquareRoot>
constexpr double normal_of(uint64_t word, SquareRoot square_root) {
  // The middle of one of 2^52 equal cells of (0, 1): exact, never 0, never 1, symmetric.
  const double u = (static_cast<double>(word >> 12) + 0.5) * 0x1p-52;
  constexpr double kTail = 0.02425;
  if (u < kTail) return inverse_normal_tail(square_root(-2.0 * natural_log(u)));
  if (u > 1.0 - kTail) return -inverse_normal_tail(square_root(-2.0 * natural_log(1.0 - u)));
  return inverse_normal_middle(u);
}

}  // namespace strait
