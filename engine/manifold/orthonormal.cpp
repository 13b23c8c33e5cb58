#include "engine/manifold/orthonormal.h"

#include <cmath>
#include <stdexcept>

namespace strait {
namespace {

// Upper-triangular R (k,k) with R^T R = x^T x.
std::vector<double> cholesky_of_gram(const std::vector<double>& x, int64_t d, int64_t k) {
  auto at = [k](std::vector<double>& m, int64_t i, int64_t j) -> double& {
    return m[static_cast<size_t>(i * k + j)];
  };
  std::vector<double> r(static_cast<size_t>(k * k), 0.0);
  for (int64_t row = 0; row < d; ++row) {
    const double* p = x.data() + row * k;
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = i; j < k; ++j) at(r, i, j) += p[i] * p[j];
    }
  }
  for (int64_t i = 0; i < k; ++i) {
    for (int64_t l = 0; l < i; ++l) {
      const double f = at(r, l, i);
      for (int64_t j = i; j < k; ++j) at(r, i, j) -= f * at(r, l, j);
    }
    if (!(at(r, i, i) > 0))
      throw std::runtime_error("orthonormalise: the columns are linearly dependent");
    const double scale = 1.0 / std::sqrt(at(r, i, i));
    for (int64_t j = i; j < k; ++j) at(r, i, j) *= scale;
  }
  return r;
}

// x <- x R^-1, row by row.
void solve_right(std::vector<double>& x, const std::vector<double>& r, int64_t d, int64_t k) {
  for (int64_t row = 0; row < d; ++row) {
    double* p = x.data() + row * k;
    for (int64_t i = 0; i < k; ++i) {
      const double* ri = r.data() + i * k;
      p[i] /= ri[i];
      for (int64_t j = i + 1; j < k; ++j) p[j] -= p[i] * ri[j];
    }
  }
}

}  // namespace

void orthonormalise(std::vector<double>& x, int64_t d, int64_t k) {
  if (k < 1 || k > d || static_cast<int64_t>(x.size()) != d * k)
    throw std::invalid_argument("orthonormalise: needs a (d, k) matrix with 1 <= k <= d");
  // k == d of a random matrix is ill-conditioned: a third pass costs little and repairs it.
  for (int pass = 0; pass < 3; ++pass) solve_right(x, cholesky_of_gram(x, d, k), d, k);
}

}  // namespace strait
