// Views that the arithmetic of SubspaceSide is written in. Private to subspace_side.cpp and subspace_absorbed.cpp.
#pragma once

#include "engine/nn/module.h"

namespace strait {

// Matrix (g, b) of x (G,B,m,n), or of one that is the same for all sequences.
inline Tensor matrix_of(const Tensor& x, int64_t g, int64_t b) {
  return x.slice(0, g, 1).slice(1, x.size(1) == 1 ? 0 : b, 1).view({x.size(2), x.size(3)});
}

// Row g of x (G,n) as (n,1).
inline Tensor column(const Tensor& x, int64_t g) { return x.slice(0, g, 1).view({x.size(1), 1}); }

// x (G,B,…) with one row a group and sequence.
inline Tensor flat_rows(const Tensor& x) {
  const int64_t rows = x.size(0) * x.size(1);
  return x.view({rows, x.elements() / rows});
}
inline Tensor flat(const Tensor& x) { return x.view({x.elements()}); }

// (1,n), in scratch.
inline Tensor ones(Context& ctx, int64_t n, DType type) {
  Tensor x = ctx.scratch.take({1, n}, type);
  ctx.ops.fill(x, 1);
  return x;
}

}  // namespace strait
