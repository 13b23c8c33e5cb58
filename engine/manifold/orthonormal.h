// Orthonormal columns on the host in double precision: CholeskyQR2 (Yamamoto et al. 2015). The sign is fixed because the
// Cholesky factor's diagonal is positive, so the result is a function of the span's basis alone.
#pragma once

#include <cstdint>
#include <vector>

namespace strait {

// Replaces x (d, k), row-major, k <= d, by the Q of its thin QR factorisation with diag(R) > 0. max|Q^T Q - I| <= 1e-14 k for
// condition numbers up to 1e7. Throws std::runtime_error if the columns are (numerically) dependent.
void orthonormalise(std::vector<double>& x, int64_t d, int64_t k);

}  // namespace strait
