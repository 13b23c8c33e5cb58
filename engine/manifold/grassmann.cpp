#include "engine/manifold/grassmann.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>

namespace strait {
namespace {

using Matrix = std::vector<double>;  // row-major

// a (n,p)^T b (n,q): (p,q).
Matrix transposed_product(const Matrix& a, const Matrix& b, int64_t n) {
  const int64_t p = static_cast<int64_t>(a.size()) / n, q = static_cast<int64_t>(b.size()) / n;
  Matrix y(static_cast<size_t>(p * q), 0.0);
  for (int64_t r = 0; r < n; ++r)
    for (int64_t i = 0; i < p; ++i) {
      const double x = a[static_cast<size_t>(r * p + i)];
      for (int64_t j = 0; j < q; ++j)
        y[static_cast<size_t>(i * q + j)] += x * b[static_cast<size_t>(r * q + j)];
    }
  return y;
}

// a (n,p) b (p,q): (n,q).
Matrix product(const Matrix& a, const Matrix& b, int64_t p) {
  const int64_t n = static_cast<int64_t>(a.size()) / p, q = static_cast<int64_t>(b.size()) / p;
  Matrix y(static_cast<size_t>(n * q), 0.0);
  for (int64_t r = 0; r < n; ++r)
    for (int64_t i = 0; i < p; ++i) {
      const double x = a[static_cast<size_t>(r * p + i)];
      for (int64_t j = 0; j < q; ++j)
        y[static_cast<size_t>(r * q + j)] += x * b[static_cast<size_t>(i * q + j)];
    }
  return y;
}

// f of the symmetric a (k,k): V f(eigenvalues) V^T.
Matrix function_of(const Matrix& a, int64_t k, const std::function<double(double)>& f) {
  Matrix vectors;
  const Matrix values = symmetric_eigenvalues(a, k, vectors);
  Matrix scaled = vectors, across(vectors.size());
  for (int64_t i = 0; i < k; ++i)
    for (int64_t j = 0; j < k; ++j) {
      scaled[static_cast<size_t>(i * k + j)] *= f(values[static_cast<size_t>(j)]);
      across[static_cast<size_t>(j * k + i)] = vectors[static_cast<size_t>(i * k + j)];
    }
  return product(scaled, across, k);
}

// y - U (U^T y).
Matrix outside(const Matrix& u, const Matrix& y, int64_t d, int64_t k) {
  Matrix rest = y;
  const Matrix inside = product(u, transposed_product(u, y, d), k);
  for (size_t i = 0; i < rest.size(); ++i) rest[i] -= inside[i];
  return rest;
}

// Zeroes a[p][q] of a symmetric matrix by a rotation in the plane of p and q, and turns the vectors along.
void rotate(Matrix& a, Matrix& vectors, int64_t k, int64_t p, int64_t q) {
  const auto at = [k](Matrix& m, int64_t i, int64_t j) -> double& {
    return m[static_cast<size_t>(i * k + j)];
  };
  const double theta = (at(a, q, q) - at(a, p, p)) / (2 * at(a, p, q));
  const double t = std::copysign(1.0, theta) / (std::abs(theta) + std::sqrt(theta * theta + 1));
  const double c = 1 / std::sqrt(t * t + 1), s = t * c;
  for (int64_t i = 0; i < k; ++i) {
    const double ip = at(a, i, p), iq = at(a, i, q);
    at(a, i, p) = c * ip - s * iq;
    at(a, i, q) = s * ip + c * iq;
  }
  for (int64_t i = 0; i < k; ++i) {
    const double pi = at(a, p, i), qi = at(a, q, i);
    at(a, p, i) = c * pi - s * qi;
    at(a, q, i) = s * pi + c * qi;
  }
  for (int64_t i = 0; i < k; ++i) {
    const double ip = at(vectors, i, p), iq = at(vectors, i, q);
    at(vectors, i, p) = c * ip - s * iq;
    at(vectors, i, q) = s * ip + c * iq;
  }
  at(a, p, q) = at(a, q, p) = 0.0;  // but for rounding
}

}  // namespace

std::vector<double> symmetric_eigenvalues(std::vector<double> a, int64_t k,
                                          std::vector<double>& vectors) {
  const auto index = [k](int64_t i, int64_t j) { return static_cast<size_t>(i * k + j); };
  vectors.assign(a.size(), 0.0);
  for (int64_t i = 0; i < k; ++i) vectors[index(i, i)] = 1.0;
  const double all = std::sqrt(std::inner_product(a.begin(), a.end(), a.begin(), 0.0));
  const double negligible = 1e-17 * all;  // an entry that moves no eigenvalue
  for (int sweep = 0; sweep < 60; ++sweep) {
    bool turned = false;
    for (int64_t p = 0; p < k; ++p)
      for (int64_t q = p + 1; q < k; ++q) {
        if (!(std::abs(a[index(p, q)]) > negligible)) continue;
        rotate(a, vectors, k, p, q);
        turned = true;
      }
    if (!turned) break;
  }
  Matrix values(static_cast<size_t>(k));
  for (int64_t i = 0; i < k; ++i) values[static_cast<size_t>(i)] = a[index(i, i)];
  return values;
}

std::vector<double> grassmann_gradient(const std::vector<double>& u, const std::vector<double>& y,
                                       int64_t d, int64_t k) {
  Matrix r = outside(u, y, d, k);
  for (double& x : r) x *= -2.0;
  return r;
}

std::vector<double> grassmann_step(const std::vector<double>& u, const std::vector<double>& y,
                                   int64_t d, int64_t k, const GrassmannStep& o) {
  Matrix captured = transposed_product(u, y, d);  // U^T C U: symmetric but for rounding
  double energy = 0;
  for (int64_t i = 0; i < k; ++i) {
    energy += captured[static_cast<size_t>(i * k + i)];
    for (int64_t j = 0; j < i; ++j) {
      double &low = captured[static_cast<size_t>(i * k + j)],
             &high = captured[static_cast<size_t>(j * k + i)];
      low = high = 0.5 * (low + high);
    }
  }
  if (!(energy > 0) || !std::isfinite(energy)) return u;
  const double least = o.rounding * energy;
  const Matrix inverse =
      function_of(captured, k, [least](double x) { return x > least ? 1.0 / x : 0.0; });
  // Twice is enough: the second time takes off what rounding left inside.
  Matrix step = outside(u, outside(u, product(y, inverse, k), d, k), d, k);
  Matrix unused;
  const Matrix squares = symmetric_eigenvalues(transposed_product(step, step, d), k, unused);
  const double steepest =
      std::sqrt(std::max(0.0, *std::max_element(squares.begin(), squares.end())));
  if (!std::isfinite(steepest)) return u;
  const double t = std::min(o.step, steepest > 0 ? std::tan(o.max_angle) / steepest : o.step);
  Matrix moved = u;
  for (size_t i = 0; i < moved.size(); ++i) moved[i] += t * step[i];
  const Matrix gram = transposed_product(moved, moved, d);
  return product(moved, function_of(gram, k, [](double x) { return 1.0 / std::sqrt(x); }), k);
}

}  // namespace strait
