#include "engine/context/rotation_family.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "engine/manifold/grassmann.h"
#include "engine/manifold/orthonormal.h"
#include "kernels/rng.h"

namespace strait {
namespace {

using Matrix = std::vector<double>;  // row-major

// a (w,w) x (w,r).
Matrix product(const Matrix& a, const Matrix& x, int64_t w, int64_t r) {
  Matrix y(static_cast<size_t>(w * r), 0.0);
  for (int64_t i = 0; i < w; ++i) {
    double* row = y.data() + i * r;
    for (int64_t l = 0; l < w; ++l) {
      const double factor = a[static_cast<size_t>(i * w + l)];
      const double* other = x.data() + l * r;
      for (int64_t j = 0; j < r; ++j) row[j] += factor * other[j];
    }
  }
  return y;
}

double norm_of(const Matrix& x) {
  double sum = 0;
  for (double v : x) sum += v * v;
  return std::sqrt(sum);
}

// The largest singular value of a skew matrix: Lanczos on -A^2 with full orthogonalisation. Its eigenvalues come in pairs, of which
// one vector sees one copy.
double spectral_norm(const Matrix& a, int64_t w) {
  const int64_t steps = std::min<int64_t>(w, 160);
  std::vector<Matrix> basis;
  std::vector<double> diagonal, beside;
  Matrix v(static_cast<size_t>(w));
  for (size_t i = 0; i < v.size(); ++i) v[i] = normal_at(Philox{0x5eed}, 1, i);
  double length = norm_of(v), largest = 0;
  for (int64_t step = 0; step < steps && length > 1e-12 * std::sqrt(largest + 1e-300); ++step) {
    for (double& x : v) x /= length;
    basis.push_back(v);
    Matrix next = product(a, product(a, v, w, 1), w, 1);
    for (double& x : next) x = -x;
    double along = 0;
    for (size_t i = 0; i < next.size(); ++i) along += next[i] * v[i];
    diagonal.push_back(along);
    for (int pass = 0; pass < 2; ++pass)
      for (const Matrix& q : basis) {
        double part = 0;
        for (size_t i = 0; i < q.size(); ++i) part += next[i] * q[i];
        for (size_t i = 0; i < q.size(); ++i) next[i] -= part * q[i];
      }
    length = norm_of(next);
    largest = std::max(largest, along);
    if (length <= 1e-12 * largest) break;
    beside.push_back(length);
    v = std::move(next);
  }
  const auto n = static_cast<int64_t>(diagonal.size());
  Matrix small(static_cast<size_t>(n * n), 0.0), unused;
  for (int64_t i = 0; i < n; ++i) {
    small[static_cast<size_t>(i * n + i)] = diagonal[static_cast<size_t>(i)];
    if (i + 1 < n)
      small[static_cast<size_t>(i * n + i + 1)] = small[static_cast<size_t>((i + 1) * n + i)] =
          beside[static_cast<size_t>(i)];
  }
  const Matrix values = symmetric_eigenvalues(small, n, unused);
  return std::sqrt(*std::max_element(values.begin(), values.end()));
}

Matrix plane_generator(int64_t w, uint64_t seed, uint64_t stream) {
  Matrix a(static_cast<size_t>(w * w), 0.0);
  if (w < 2) return a;
  Matrix uv(static_cast<size_t>(2 * w));
  for (size_t i = 0; i < uv.size(); ++i) uv[i] = normal_at(Philox{seed}, stream, i);
  orthonormalise(uv, w, 2);
  for (int64_t i = 0; i < w; ++i)
    for (int64_t j = 0; j < w; ++j) {
      const auto u = [&](int64_t at) { return uv[static_cast<size_t>(2 * at)]; };
      const auto v = [&](int64_t at) { return uv[static_cast<size_t>(2 * at + 1)]; };
      a[static_cast<size_t>(i * w + j)] = u(i) * v(j) - v(i) * u(j);
    }
  return a;
}

}  // namespace

int64_t RotationFamily::terms(DType s) const {
  if (rotation == "none") return 1;
  if (rotation == "taylor2" || rotation == "plane") return 3;
  // The singular values of a skew matrix come in pairs: with a Frobenius norm of 1 none is above 1/sqrt(2).
  const double x = theta_clip * (generator_norm == "spectral" ? 1.0 : std::numbers::sqrt2 / 2);
  const double negligible = s == DType::f64 ? 0x1p-53 : 0x1p-24;
  double term = rotation == "cayley" ? 2.0 : 1.0;
  int64_t count = 0;
  for (; term > negligible; ++count)
    term *= rotation == "cayley" ? x / 2 : x / static_cast<double>(count + 1);
  return count + 2;  // the derivative's terms are later by one
}

std::vector<double> skew_generator(const RotationFamily& family, int64_t w, uint64_t seed,
                                   uint64_t stream) {
  if (family.rotation == "plane") return plane_generator(w, seed, stream);
  Matrix a(static_cast<size_t>(w * w), 0.0);
  const auto s = [&](int64_t i, int64_t j) {
    return normal_at(Philox{seed}, stream, static_cast<uint64_t>(i * w + j));
  };
  for (int64_t i = 0; i < w; ++i)
    for (int64_t j = 0; j < i; ++j) {
      const double difference = s(i, j) - s(j, i);
      a[static_cast<size_t>(i * w + j)] = difference;
      a[static_cast<size_t>(j * w + i)] = -difference;
    }
  if (w < 2) return a;  // the only skew matrix is 0
  const double norm = family.generator_norm == "spectral" ? spectral_norm(a, w) : norm_of(a);
  for (double& x : a) x /= norm;
  return a;
}

std::vector<double> rotation_terms(const RotationFamily& family, const std::vector<double>& ubar,
                                   int64_t w, int64_t r, int64_t terms, uint64_t seed,
                                   uint64_t stream) {
  Matrix all = ubar;
  if (terms == 1) return all;
  const Matrix a = skew_generator(family, w, seed, stream);
  Matrix power = ubar;
  for (int64_t j = 1; j < terms; ++j) {
    power = product(a, power, w, r);
    double factor = 1;
    if (family.rotation == "cayley") factor = j == 1 ? 1.0 : 0.5;
    if (family.rotation == "taylor2" || family.rotation == "exp")
      factor = 1.0 / static_cast<double>(j);
    for (double& x : power) x *= factor;  // of cayley: 2 (1/2)^j = 1, 1/2, 1/4, …
    all.insert(all.end(), power.begin(), power.end());
  }
  return all;
}

}  // namespace strait
