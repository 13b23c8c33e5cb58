// The iterated polar factor against U V^T from an eigen-decomposition, and the table of specs/mapl.md section 3.2.
#include "engine/manifold/polar.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/manifold/orthonormal.h"
#include "tests/engine/symmetric_eigen.h"

namespace strait::testing {
namespace {

Matrix random_matrix(int64_t rows, int64_t columns, uint64_t stream) {
  Matrix m{rows, columns};
  for (size_t i = 0; i < m.x.size(); ++i) m.x[i] = normal_at(Philox{21}, stream, i);
  return m;
}

Matrix random_orthonormal(int64_t rows, int64_t columns, uint64_t stream) {
  Matrix m = random_matrix(rows, columns, stream);
  orthonormalise(m.x, rows, columns);
  return m;
}

Matrix computed(Backend& ops, const Matrix& x, DType t, const PolarOptions& options) {
  const Shape shape{x.rows, x.columns};
  const auto bytes = static_cast<size_t>(shape.elements()) * size_of(t);
  const auto memory = ops.allocate(2 * (bytes + Arena::kAlignment));
  Arena operands(memory->data(), memory->bytes(), "operands"), counting;
  const Tensor in = operands.take(shape, t), out = operands.take(shape, t);
  // As a rank does: the same calls first, on a backend that only counts.
  const auto meta = make_meta_backend();
  Context dry{*meta, counting};
  polar(dry, Tensor(nullptr, t, shape), Tensor(nullptr, t, shape), options);
  const auto region = ops.allocate(counting.high_water());
  Arena scratch(region->data(), region->bytes(), "scratch");
  Context ctx{ops, scratch};
  upload(ops, in, x);
  polar(ctx, out, in, options);
  Matrix apart = download(ops, out);
  if (options.normalise) {
    polar(ctx, in, in, options);
    EXPECT_EQ(download(ops, in).x, apart.x);
  }
  return apart;
}

double largest_difference(const Matrix& a, const Matrix& b) {
  double d = 0;
  for (size_t i = 0; i < a.x.size(); ++i) d = std::max(d, std::abs(a.x[i] - b.x[i]));
  return std::isfinite(d) ? d : HUGE_VAL;
}

// max |A^T A - I|
double deviation(const Matrix& a) {
  Matrix identity{a.columns, a.columns};
  for (int64_t i = 0; i < a.columns; ++i) identity(i, i) = 1;
  return largest_difference(product(transposed(a), a), identity);
}

TEST(Polar, EqualsTheFactorFromAnEigenDecomposition) {
  const auto ops = make_reference_backend();
  for (const auto& [rows, columns] :
       std::vector<std::pair<int64_t, int64_t>>{{20, 7}, {7, 20}, {9, 9}, {13, 1}, {1, 13}}) {
    const Matrix x = random_matrix(rows, columns, 1);
    for (const PolarOptions& o : {PolarOptions{PolarCoefficients::polar_express, 12},
                                  PolarOptions{PolarCoefficients::protocol, 40},
                                  PolarOptions{PolarCoefficients::newton_schulz, 30}})
      // Converged; what is left is rounding in double, amplified by the inverse of the smallest singular value.
      EXPECT_LT(largest_difference(computed(*ops, x, DType::f64, o), polar_factor(x)), 1e-9)
          << rows << " x " << columns << ", coefficients " << static_cast<int>(o.coefficients);
  }
}

TEST(Polar, OfLowRankStaysInItsSpan) {
  const auto ops = make_reference_backend();
  const Matrix x = product(random_matrix(12, 2, 2), random_matrix(2, 5, 3));
  // The other directions hold rounding of 1e-16, which eight iterations amplify by 2e4 at most.
  EXPECT_LT(largest_difference(computed(*ops, x, DType::f64, {}), polar_factor(x)), 1e-9);
  const auto cpu = make_cpu_backend(1);
  const Matrix wide = product(random_matrix(96, 8, 4), random_matrix(8, 64, 5));
  double trace = 0;
  for (double v : computed(*cpu, wide, DType::f32, {}).x) trace += v * v;
  // Rank 8; rounding in single is amplified, too, but stays small (section 3.2: 8.5).
  EXPECT_NEAR(trace, 8, 1);
}

TEST(Polar, OfZeroIsZero) {
  const auto reference = make_reference_backend(), cpu = make_cpu_backend(1);
  const Matrix zero{17, 5};
  for (const auto c : {PolarCoefficients::polar_express, PolarCoefficients::muon,
                       PolarCoefficients::protocol, PolarCoefficients::newton_schulz})
    for (bool normalise : {true, false}) {
      EXPECT_EQ(computed(*reference, zero, DType::f64, {c, 5, normalise}).x, zero.x);
      EXPECT_EQ(computed(*cpu, zero, DType::f32, {c, 5, normalise}).x, zero.x);
      EXPECT_EQ(computed(*cpu, zero, DType::bf16, {c, 5, normalise}).x, zero.x);
    }
}

TEST(Polar, DoesNotDependOnTheScale) {
  const auto cpu = make_cpu_backend(1);
  const Matrix x = random_matrix(40, 24, 6);
  Matrix smaller = x;
  // A power of two changes no rounding; eps is below the rounding of this norm.
  for (double& v : smaller.x) v *= 0x1p-14;
  EXPECT_EQ(computed(*cpu, smaller, DType::f32, {}).x, computed(*cpu, x, DType::f32, {}).x);
  for (double& v : smaller.x) v *= 0x1p-100;  // squares vanish in single
  EXPECT_TRUE(std::isfinite(largest_difference(computed(*cpu, smaller, DType::f32, {}), x)));
}

// The table of section 3.2: a step on the manifold of d x r, taken back to it.
TEST(Polar, FiveIterationsOfPolarExpressAreNotEnoughForARetraction) {
  const auto cpu = make_cpu_backend(1);
  Matrix x = random_orthonormal(256, 64, 7);
  const Matrix direction = random_orthonormal(256, 64, 8);
  for (size_t i = 0; i < x.x.size(); ++i) x.x[i] -= 0.002 * direction.x[i];
  const auto after = [&](int steps, PolarCoefficients c, bool normalise) {
    return deviation(computed(*cpu, x, DType::f32, {c, steps, normalise}));
  };
  // The more columns, the smaller the singular values after normalising: at r = 256 it is 0.23.
  EXPECT_GT(after(5, PolarCoefficients::polar_express, true), 0.05);
  EXPECT_LT(after(6, PolarCoefficients::polar_express, true), 1e-2);
  EXPECT_LT(after(8, PolarCoefficients::polar_express, true), 3e-6);
  EXPECT_LT(after(2, PolarCoefficients::newton_schulz, false), 2e-6);
  for (size_t i = 0; i < x.x.size(); ++i) x.x[i] -= 0.098 * direction.x[i];
  EXPECT_LT(after(1, PolarCoefficients::newton_schulz, false), 1e-3);  // cubic: 0.1^3
  EXPECT_LT(after(2, PolarCoefficients::newton_schulz, false), 2e-6);
  // bf16 has 8 bits: never nearer than 1e-2 or so.
  EXPECT_LT(deviation(computed(*cpu, x, DType::bf16, {})), 5e-2);
}

TEST(Polar, OfMuonLeavesSingularValuesAroundOne) {
  const auto cpu = make_cpu_backend(1);
  for (const DType t : {DType::f32, DType::bf16}) {
    const Matrix y = computed(*cpu, random_matrix(64, 32, 9), t, {PolarCoefficients::muon, 5});
    for (double square : symmetric_eigen(product(transposed(y), y)).values) {
      EXPECT_GT(std::sqrt(square), 0.5);
      EXPECT_LT(std::sqrt(square), 1.5);
    }
  }
}

TEST(Polar, NamesItsCoefficients) {
  for (const std::string& name : polar_coefficients_names())
    EXPECT_EQ(polar_coefficients_names().at(static_cast<size_t>(polar_coefficients(name))), name);
  EXPECT_THROW(polar_coefficients("cubic"), std::invalid_argument);
}

}  // namespace
}  // namespace strait::testing
