#include "engine/manifold/cholesky_qr.h"

#include <utility>

namespace strait {

void orthonormalise_columns(Context& ctx, Tensor a) {
  ArenaScope scope(ctx.scratch);
  const int64_t r = a.size(1);
  Tensor gram = ctx.scratch.take({r, r}, a.dtype), inverse = ctx.scratch.take({r, r}, a.dtype),
         b = ctx.scratch.take(a.shape, a.dtype);
  for (const auto& [from, to] : {std::pair(a, b), std::pair(b, a)}) {
    ctx.ops.matmul(gram, from, true, from, false, false);
    ctx.ops.inverse_cholesky(inverse, gram);
    ctx.ops.matmul(to, from, false, inverse, false, false);
  }
}

}  // namespace strait
