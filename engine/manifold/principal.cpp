#include "engine/manifold/principal.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "engine/manifold/grassmann.h"
#include "kernels/rng.h"

namespace strait {
namespace {

// Directions lie in rows here, so that all loops run over neighbouring numbers.
using Rows = std::vector<double>;

double dot(const double* a, const double* b, int64_t n) {
  // Four sums, so that additions need not wait for each other.
  double sums[4] = {0, 0, 0, 0};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (int64_t j = 0; j < 4; ++j) sums[j] += a[i + j] * b[i + j];
  for (; i < n; ++i) sums[0] += a[i] * b[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

void add_multiple(double* y, double alpha, const double* x, int64_t n) {
  for (int64_t i = 0; i < n; ++i) y[i] += alpha * x[i];
}

// Gram-Schmidt, twice each, which is enough (Giraud et al. 2005). What has no direction of its own becomes a random one.
void orthonormalise_rows(Rows& q, int64_t rows, int64_t w) {
  uint64_t spare = 0;
  for (int64_t i = 0; i < rows; ++i) {
    double* row = q.data() + i * w;
    for (;;) {
      const double before = std::sqrt(dot(row, row, w));
      double after = before;
      for (int pass = 0; pass < 2; ++pass) {
        for (int64_t j = 0; j < i; ++j) {
          const double* other = q.data() + j * w;
          add_multiple(row, -dot(row, other, w), other, w);
        }
        after = std::sqrt(dot(row, row, w));
        if (after < 1e-10 * before) break;
      }
      if (after > 1e-10 * before && std::isfinite(after) && after > 0) {
        for (int64_t c = 0; c < w; ++c) row[c] /= after;
        break;
      }
      ++spare;
      for (int64_t c = 0; c < w; ++c)
        row[c] = normal_at(Philox{0x5eed}, spare, static_cast<uint64_t>(c));
    }
  }
}

// q (rows,w) gram (w,w): the seconds that this file takes. Four terms a pass over y, and so many columns at a time that y stays in the cache.
Rows times_gram(const Rows& q, const std::vector<double>& gram, int64_t rows, int64_t w) {
  constexpr int64_t kColumns = 256;
  Rows y(q.size(), 0.0);
  for (int64_t begin = 0; begin < w; begin += kColumns) {
    const int64_t n = std::min(kColumns, w - begin);
    const double* block = gram.data() + begin;
    int64_t l = 0;
    for (; l + 4 <= w; l += 4) {
      const double *g0 = block + l * w, *g1 = g0 + w, *g2 = g1 + w, *g3 = g2 + w;
      for (int64_t i = 0; i < rows; ++i) {
        const double* f = q.data() + i * w + l;
        double* out = y.data() + i * w + begin;
        for (int64_t c = 0; c < n; ++c)
          out[c] += (f[0] * g0[c] + f[1] * g1[c]) + (f[2] * g2[c] + f[3] * g3[c]);
      }
    }
    for (; l < w; ++l)
      for (int64_t i = 0; i < rows; ++i)
        add_multiple(y.data() + i * w + begin, q[static_cast<size_t>(i * w + l)], block + l * w, n);
  }
  return y;
}

// (w,r) from rows in the order of descending `values`; signs fixed.
std::vector<double> leading(const Rows& q, const std::vector<double>& values, int64_t w,
                            int64_t r) {
  std::vector<int64_t> order(values.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  std::vector<double> u(static_cast<size_t>(w * r));
  for (int64_t j = 0; j < r; ++j) {
    const double* row = q.data() + order[static_cast<size_t>(j)] * w;
    const double* largest = std::max_element(
        row, row + w, [](double a, double b) { return std::abs(a) < std::abs(b); });
    const double sign = *largest < 0 ? -1.0 : 1.0;
    for (int64_t i = 0; i < w; ++i) u[static_cast<size_t>(i * r + j)] = sign * row[i];
  }
  return u;
}

// Rows from the columns of v (n,n).
Rows transposed(const std::vector<double>& v, int64_t n) {
  Rows rows(v.size());
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < n; ++j)
      rows[static_cast<size_t>(j * n + i)] = v[static_cast<size_t>(i * n + j)];
  return rows;
}

}  // namespace

std::vector<double> principal_directions(const std::vector<double>& gram, int64_t w, int64_t r) {
  if (r < 1 || r > w || static_cast<int64_t>(gram.size()) != w * w)
    throw std::invalid_argument("principal_directions: needs a (w, w) matrix and 1 <= r <= w");
  std::vector<double> vectors;
  if (w <= 96) {
    const std::vector<double> values = symmetric_eigenvalues(gram, w, vectors);
    return leading(transposed(vectors, w), values, w, r);
  }
  const int64_t p = std::min(w, r + r / 4 + 8);
  Rows q(static_cast<size_t>(p * w));
  for (size_t i = 0; i < q.size(); ++i) q[i] = normal_at(Philox{0x5eed}, 0, i);
  orthonormalise_rows(q, p, w);
  double captured = 0;
  Rows y;
  for (int iteration = 0; iteration < 60; ++iteration) {
    y = times_gram(q, gram, p, w);
    const double before = captured;
    captured = dot(q.data(), y.data(), p * w);
    if (captured - before <= 1e-9 * captured) break;
    q = y;
    orthonormalise_rows(q, p, w);
  }
  // Rayleigh-Ritz: the eigenvectors within the span.
  y = times_gram(q, gram, p, w);
  std::vector<double> small(static_cast<size_t>(p * p));
  for (int64_t i = 0; i < p; ++i)
    for (int64_t j = 0; j <= i; ++j)
      small[static_cast<size_t>(i * p + j)] = small[static_cast<size_t>(j * p + i)] =
          dot(q.data() + i * w, y.data() + j * w, w);
  const std::vector<double> values = symmetric_eigenvalues(small, p, vectors);
  Rows turned(q.size(), 0.0);
  for (int64_t i = 0; i < p; ++i)
    for (int64_t j = 0; j < p; ++j)
      add_multiple(turned.data() + i * w, vectors[static_cast<size_t>(j * p + i)], q.data() + j * w,
                   w);
  return leading(turned, values, w, r);
}

std::vector<double> gram_of_rows(const std::vector<double>& a, int64_t m, int64_t n) {
  constexpr int64_t kBlock = 16;  // rows that stay in the cache while all others pass
  std::vector<double> gram(static_cast<size_t>(m * m));
  for (int64_t begin = 0; begin < m; begin += kBlock)
    for (int64_t j = 0; j < m; ++j)
      for (int64_t i = begin; i < std::min(m, begin + kBlock) && i <= j; ++i)
        gram[static_cast<size_t>(i * m + j)] = gram[static_cast<size_t>(j * m + i)] =
            dot(a.data() + i * n, a.data() + j * n, n);
  return gram;
}

}  // namespace strait
