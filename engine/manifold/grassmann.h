// Moving a subspace towards the directions of gradients (specs/subspace_models.md, section 5.2), on the host in double precision: a
// step every few hundred training steps. With the rows of G (N,d), gradients that are to be kept by their part in col(U):
//
//   objective            F(U) = ||G (I - U U^T)||_F^2 = tr(C) - tr(U^T C U),   C = G^T G
//   statistic            Y = C U  (d,k), the sum of G^T (G U);   e = tr(C), the sum of ||G||^2
//   Riemannian gradient  R = -2 (Y - U (U^T Y)),   U^T R = 0
//   scale-free step      D = (I - U U^T) Y (U^T Y)^-1,   U+ = polar factor of U + t D
//
// t = 1 is one step of orthogonal iteration: U+ spans C U. U+ is the orthonormal basis of span(U + t D) whose coordinates are closest to
// those of U, that is qf(U + t D) after alignment, because U^T U+ is symmetric and positive. tan of the largest principal angle between
// U and U+ is the largest singular value of t D.
#pragma once

#include <cstdint>
#include <vector>

namespace strait {

// All matrices row-major; u and y (d,k), u orthonormal.

// R (d,k).
std::vector<double> grassmann_gradient(const std::vector<double>& u, const std::vector<double>& y,
                                       int64_t d, int64_t k);

struct GrassmannStep {
  double step = 0.1;  // t, (0, 1]
  double max_angle =
      0.05;  // radians, (0, pi/2): t is made smaller so that no principal angle is larger
  double rounding =
      2.3e-16;  // of y, relative: directions with less than this share of the energy are not divided by
};

// U+ (d,k), max|U+^T U+ - I| <= 1e-13; u itself where y has no energy or is not finite.
std::vector<double> grassmann_step(const std::vector<double>& u, const std::vector<double>& y,
                                   int64_t d, int64_t k, const GrassmannStep& options);

// Eigenvalues of the symmetric a (k,k), and its eigenvectors as the columns of `vectors` (k,k): cyclic Jacobi rotations (Golub & Van
// Loan 8.5) until the rest is rounding. O(k^3) a sweep, about ten sweeps.
std::vector<double> symmetric_eigenvalues(std::vector<double> a, int64_t k,
                                          std::vector<double>& vectors);

}  // namespace strait
