// Orthonormal columns on the device by Cholesky QR, twice: the Gram matrix squares the condition number, the second pass makes up for it
// (Yamamoto et al. 2015, CholeskyQR2).
#pragma once

#include "engine/nn/module.h"

namespace strait {

// a (n,r) S becomes the Q factor of a = Q R, R with a positive diagonal; columns of zeros where it has no more directions.
void orthonormalise_columns(Context& ctx, Tensor a);

}  // namespace strait
