// Principal directions, generators and rotated bases (specs/mixture_of_subspaces.md 13, M2, M3, M7).
#include "engine/manifold/principal.h"
#include "tests/engine/mixture_matrices.h"

namespace strait::testing {
namespace {

// The leading directions of a matrix whose decomposition is known, small (Jacobi) and large (subspace iteration).
TEST(PrincipalDirections, AreThoseOfTheLargestSingularValues) {
  for (int64_t w : {int64_t{12}, int64_t{150}}) {
    const int64_t r = 4, n = 40;
    Matrix left(w, n), right(n, n);
    left.x = normal_values(static_cast<size_t>(w * n), 1, 1);
    right.x = normal_values(static_cast<size_t>(n * n), 2, 1);
    if (w < n) left = polar_factor(left);
    const Matrix u = w < n ? left : polar_factor(left), v = polar_factor(right);
    Matrix scaled = u;
    for (int64_t i = 0; i < scaled.rows; ++i)
      for (int64_t j = 0; j < n; ++j)
        scaled(i, j) *= j < std::min(w, n) ? std::pow(0.7, static_cast<double>(j)) : 0.0;
    const Matrix a = product(scaled, v);
    const Values gram = gram_of_rows(a.x, w, n);
    EXPECT_LE(largest_difference(gram, product(a, transposed(a)).x), 1e-13);
    const Matrix p = matrix(w, r, principal_directions(gram, w, r));
    EXPECT_LE(not_orthonormal(p), 1e-13);
    // They are invariant: G P = P (P^T G P); and no others capture more: sum of the largest eigenvalues.
    const Matrix g = matrix(w, w, gram), gp = product(g, p), inside = product(transposed(p), gp);
    EXPECT_LE(largest(sum(gp, product(p, inside), -1)), 1e-7);
    Eigen e = symmetric_eigen(g);
    std::sort(e.values.rbegin(), e.values.rend());
    double captured = 0, most = 0;
    for (int64_t i = 0; i < r; ++i) {
      captured += inside(i, i);
      most += e.values[static_cast<size_t>(i)];
    }
    EXPECT_NEAR(captured, most, 1e-10);
  }
}

// More directions than the matrix has: the rest are any orthonormal ones.
TEST(PrincipalDirections, OfAMatrixWithoutEnough) {
  for (int64_t w : {int64_t{8}, int64_t{120}}) {
    Values a(static_cast<size_t>(w), 0.0);
    for (int64_t i = 0; i < w; ++i) a[static_cast<size_t>(i)] = static_cast<double>(i + 1);
    const Matrix p = matrix(w, 3, principal_directions(gram_of_rows(a, w, 1), w, 3));
    EXPECT_LE(not_orthonormal(p), 1e-13);
    const double scale = a.back() / p(w - 1, 0);
    for (int64_t i = 0; i < w; ++i) EXPECT_NEAR(p(i, 0) * scale, a[static_cast<size_t>(i)], 1e-9);
  }
  EXPECT_THROW(principal_directions({1}, 1, 2), std::invalid_argument);
}

TEST(RotationFamily, Invariant02_GeneratorsAreSkewAndHaveNormOne) {
  for (int64_t w : {int64_t{2}, int64_t{7}, int64_t{64}, int64_t{200}})
    for (const char* norm : {"frobenius", "spectral"}) {
      RotationFamily family;
      family.generator_norm = norm;
      const Matrix a = matrix(w, w, skew_generator(family, w, 3, 4));
      EXPECT_EQ(largest(sum(a, transposed(a))), 0);
      double square = 0;
      for (double x : a.x) square += x * x;
      if (family.generator_norm == "frobenius") {
        EXPECT_NEAR(std::sqrt(square), 1, 1e-12);
        continue;
      }
      const Eigen e = symmetric_eigen(product(transposed(a), a));
      EXPECT_NEAR(std::sqrt(*std::max_element(e.values.begin(), e.values.end())), 1, 1e-6);
    }
}

// U(theta) as an op makes it of the frames.
Matrix basis_at(const RotationFamily& family, const Values& frames, int64_t w, int64_t r,
                double theta) {
  const auto ops = make_reference_backend();
  TensorStore store(*ops);
  const int64_t terms = family.terms(DType::f64);
  const Tensor f = store.make({1, terms}, DType::f64), angle = store.make({1}, DType::f64),
               m = store.make({terms, w * r}, DType::f64), u = store.make({1, w * r}, DType::f64);
  set(angle, 0, theta);
  host_upload(*ops, m, frames);
  ops->rotation_coefficients(f, angle, family.series(), false);
  ops->matmul(u, f, false, m, false, false);
  return matrix(w, r, values(u));
}

// exp(theta A), by scaling and squaring of a series.
Matrix exponential(const Matrix& a, double theta) {
  Matrix x = a, power = identity(a.rows), y = power;
  for (double& v : x.x) v *= theta / 256;
  for (int j = 1; j < 20; ++j) {
    power = product(power, x);
    for (double& v : power.x) v /= j;
    y = sum(y, power);
  }
  for (int i = 0; i < 8; ++i) y = product(y, y);
  return y;
}

// The angle that a test looks at, and matrices of its size.
struct Rotated {
  RotationFamily family;
  Matrix a, ubar, u;
};
Rotated rotated(const std::string& rotation, const std::string& norm, double theta, int64_t w,
                int64_t r) {
  Rotated x{{rotation, norm, 0.5}, Matrix(w, w), Matrix(w, r), Matrix(w, r)};
  x.a.x = skew_generator(x.family, w, 3, 4);
  x.ubar.x = normal_values(static_cast<size_t>(w * r), 8, 1);
  x.ubar = polar_factor(x.ubar);
  x.u =
      basis_at(x.family, rotation_terms(x.family, x.ubar.x, w, r, x.family.terms(DType::f64), 3, 4),
               w, r, theta);
  return x;
}

TEST(RotationFamily, Invariant03_TaylorsErrorIsOfFourthOrderAndTheOthersAreOrthogonal) {
  const int64_t w = 20, r = 6;
  for (const char* norm : {"frobenius", "spectral"})
    for (double theta : {-0.5, 0.2, 0.5}) {
      const Rotated taylor = rotated("taylor2", norm, theta, w, r);
      const Matrix a2 = product(taylor.a, taylor.a), a4 = product(a2, a2);
      Matrix expected = product(transposed(taylor.ubar), product(a4, taylor.ubar));
      for (double& x : expected.x) x *= std::pow(theta, 4) / 4;
      const Matrix error = sum(product(transposed(taylor.u), taylor.u), identity(r), -1);
      EXPECT_LE(largest(sum(error, expected, -1)), 1e-12);
      for (const char* rotation : {"exp", "cayley", "plane"}) {
        const Rotated x = rotated(rotation, norm, theta, w, r);
        EXPECT_LE(not_orthonormal(x.u), 1e-12) << rotation;
        Matrix by_hand = exponential(x.a, theta);
        if (x.family.rotation == "cayley") {
          // (I - theta A/2) U = (I + theta A/2) Ubar
          EXPECT_LE(largest(sum(sum(x.u, product(x.a, x.u), -theta / 2),
                                sum(x.ubar, product(x.a, x.ubar), theta / 2), -1)),
                    1e-12);
          continue;
        }
        EXPECT_LE(largest(sum(x.u, product(by_hand, x.ubar), -1)), 1e-12) << rotation;
      }
    }
}

// specs/mixture_of_subspaces.md 4.2: how little the Frobenius norm turns.
TEST(RotationFamily, AFrobeniusNormTurnsLittle) {
  for (const auto& [w, least, most] :
       std::vector<std::tuple<int64_t, double, double>>{{64, 0.2, 0.28}, {128, 0.14, 0.2}}) {
    RotationFamily family;
    const Matrix a = matrix(w, w, skew_generator(family, w, 3, 4));
    const Eigen e = symmetric_eigen(product(transposed(a), a));
    const double norm = std::sqrt(*std::max_element(e.values.begin(), e.values.end()));
    EXPECT_GT(norm, least);
    EXPECT_LT(norm, most);
  }
}

TEST(MixtureOfSubspaces, Invariant07_CompressingAReconstructionChangesNothing) {
  for (const char* rotation : {"exp", "cayley", "plane", "none"})
    for (double theta : {-0.4, 0.0, 0.5}) {
      const Rotated x = rotated(rotation, "spectral", theta, 20, 6);
      const Matrix c = matrix(5, 6, normal_values(30, 6, 1));
      EXPECT_LE(largest(sum(product(product(c, transposed(x.u)), x.u), c, -1)), 1e-12);
    }
}

}  // namespace
}  // namespace strait::testing
