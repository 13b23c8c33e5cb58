// The leading eigenvectors of a symmetric matrix on the host in double precision, for set-up: the principal directions of weights or
// of activations, given their Gram matrix.
#pragma once

#include <cstdint>
#include <vector>

namespace strait {

// gram (w,w) symmetric, positive semi-definite, row-major. Returns (w,r), row-major, orthonormal to 1e-13: eigenvectors of the r largest
// eigenvalues, descending, the entry of largest magnitude of each positive; beyond the rank of `gram` any orthonormal directions. A
// function of `gram` alone: the same bits wherever the same program runs.
//
// w <= 96: Jacobi rotations, to rounding. Else subspace iteration with r/4 + 8 more directions than asked for, until an iteration adds less
// than 1e-9 of the energy captured, at most 60 times (2 w^2 (5r/4 + 8) multiplications each): where the spectrum is flat at r the
// directions are not the eigenvectors then, but capture as much to a few parts in a thousand (Halko et al. 2011).
// Throws std::invalid_argument where sizes do not fit.
std::vector<double> principal_directions(const std::vector<double>& gram, int64_t w, int64_t r);

// a a^T (m,m) of a (m,n), row-major.
std::vector<double> gram_of_rows(const std::vector<double>& a, int64_t m, int64_t n);

}  // namespace strait
