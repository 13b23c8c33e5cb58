// Method `mapl`: manifold-aware projection learning (specs/mapl.md; Janson et al., arXiv 2606.05484). At each boundary a projector A (d,r)
// with orthonormal columns, learned by the task's loss, and token anchors a_p of the two stages:
//
//   forward    send Z = (x - a_p[ids]) A and the ids;      receiver x^ = Z A^T + a_{p+1}[ids]
//   backward   send G A;                                   sender   dx = (G A) A^T
//   a step     the receiver sends its half of dL/dA, the sender adds its own, moves A (SPEL) and sends it back
//   bytes      forward N (r w + i), backward N r w; a step 8 d r of synchronisation
//
// Blocks are not constrained. The gradient is exact for what the codec computes; rounding to the wire is taken for the identity.
#pragma once

#include "engine/codec/method.h"

namespace strait {

// Throws std::invalid_argument for a rank or an option that does not fit.
std::unique_ptr<Method> make_mapl(const MethodOptions& options, const ModelShape& shape,
                                  DType compute);

}  // namespace strait
