// Small matrices in double precision on the host, and the polar factor from an eigen-decomposition: an oracle that shares nothing
// with the iterations of engine/manifold/polar.h.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/backend.h"

namespace strait::testing {

// Row-major.
struct Matrix {
  int64_t rows = 0, columns = 0;
  std::vector<double> x;
  Matrix(int64_t r, int64_t c) : rows(r), columns(c), x(static_cast<size_t>(r * c)) {}
  double& operator()(int64_t i, int64_t j) { return x[static_cast<size_t>(i * columns + j)]; }
  double operator()(int64_t i, int64_t j) const { return x[static_cast<size_t>(i * columns + j)]; }
};

inline Matrix transposed(const Matrix& a) {
  Matrix t{a.columns, a.rows};
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t j = 0; j < a.columns; ++j) t(j, i) = a(i, j);
  return t;
}

inline Matrix product(const Matrix& a, const Matrix& b) {
  Matrix y{a.rows, b.columns};
  for (int64_t i = 0; i < a.rows; ++i)
    for (int64_t k = 0; k < a.columns; ++k)
      for (int64_t j = 0; j < b.columns; ++j) y(i, j) += a(i, k) * b(k, j);
  return y;
}

struct Eigen {
  std::vector<double> values;
  Matrix vectors;  // columns
};

// Of a symmetric matrix, by cyclic Jacobi rotations (Golub & Van Loan, section 8.5).
inline Eigen symmetric_eigen(Matrix a) {
  const int64_t n = a.rows;
  Matrix v{n, n};
  for (int64_t i = 0; i < n; ++i) v(i, i) = 1;
  for (int sweep = 0; sweep < 30; ++sweep)
    for (int64_t p = 0; p < n; ++p)
      for (int64_t q = p + 1; q < n; ++q) {
        if (std::abs(a(p, q)) < 1e-300) continue;
        const double tau = (a(q, q) - a(p, p)) / (2 * a(p, q)),
                     t = (tau < 0 ? -1 : 1) / (std::abs(tau) + std::sqrt(1 + tau * tau)),
                     c = 1 / std::sqrt(1 + t * t), s = t * c;
        const auto rotate = [&](double& x, double& y) {
          const double old = x;
          x = c * old - s * y;
          y = s * old + c * y;
        };
        for (int64_t k = 0; k < n; ++k) rotate(a(k, p), a(k, q));
        for (int64_t k = 0; k < n; ++k) rotate(a(p, k), a(q, k));
        for (int64_t k = 0; k < n; ++k) rotate(v(k, p), v(k, q));
      }
  Eigen e{{}, v};
  for (int64_t i = 0; i < n; ++i) e.values.push_back(a(i, i));
  return e;
}

// U V^T of X = U S V^T: X (X^T X)^(-1/2), with the pseudo-inverse where X has not full rank.
inline Matrix polar_factor(const Matrix& x) {
  if (x.rows < x.columns) return transposed(polar_factor(transposed(x)));
  const Eigen e = symmetric_eigen(product(transposed(x), x));
  const double largest = *std::max_element(e.values.begin(), e.values.end());
  Matrix scaled = e.vectors;
  for (int64_t j = 0; j < scaled.columns; ++j) {
    const double value = e.values[static_cast<size_t>(j)];
    for (int64_t i = 0; i < scaled.rows; ++i)
      scaled(i, j) *= value > 1e-12 * largest ? 1 / std::sqrt(value) : 0.0;
  }
  return product(product(x, scaled), transposed(e.vectors));
}

inline void upload(Backend& ops, const Tensor& t, const Matrix& m) {
  std::vector<std::byte> bytes(t.bytes());
  for (size_t i = 0; i < m.x.size(); ++i) {
    const auto f = static_cast<float>(m.x[i]);
    const bfloat16 h(f);
    if (t.dtype == DType::f64) std::memcpy(bytes.data() + i * 8, &m.x[i], 8);
    if (t.dtype == DType::f32) std::memcpy(bytes.data() + i * 4, &f, 4);
    if (t.dtype == DType::bf16) std::memcpy(bytes.data() + i * 2, &h, 2);
  }
  ops.upload(t, bytes.data());
}

inline Matrix download(Backend& ops, const Tensor& t) {
  Matrix m{t.size(0), t.size(1)};
  std::vector<std::byte> bytes(t.bytes());
  ops.download(bytes.data(), t);
  for (size_t i = 0; i < m.x.size(); ++i) {
    float f = 0;
    bfloat16 h;
    if (t.dtype == DType::f64) std::memcpy(&m.x[i], bytes.data() + i * 8, 8);
    if (t.dtype == DType::f32) std::memcpy(&f, bytes.data() + i * 4, 4), m.x[i] = f;
    if (t.dtype == DType::bf16)
      std::memcpy(&h, bytes.data() + i * 2, 2), m.x[i] = static_cast<float>(h);
  }
  return m;
}

}  // namespace strait::testing
