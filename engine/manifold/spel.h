// One step on the Stiefel manifold St(d,r) = {A : A^T A = I} (specs/mapl.md, section 3.1): steepest descent in the spectral norm with
// momentum in the tangent space, and back onto the manifold.
//
//   g_R = g - A sym(A^T g),  sym(M) = (M + M^T) / 2        tangent projection, embedded metric
//   m   = beta m + (1 - beta) g_R
//   A   = retract(A - alpha polar(m)),                     polar(m) = m (m^T m)^(-1/2)
//
// The step does not depend on the scale of g. Singular values of A - alpha polar(m) lie in [1 - alpha, 1 + alpha], so that two steps of a
// Newton-Schulz iteration without a norm bring it back to rounding; five of Polar Express do not (section 3.2).
#pragma once

#include <string>

#include "engine/nn/module.h"

namespace strait {

struct SpelOptions {
  double beta = 0.95;
  // "tangent_accumulate" (MAPL); "euclid_then_project": m of g, its projection is what moves A; "euclid_plain": without any projection.
  std::string momentum = "tangent_accumulate";
  bool transport = false;  // m is projected onto the tangent space at the new A
  std::string retraction =
      "ns_quintic";  // "ns_quintic" (2 steps; polar_express where alpha > 0.1), "polar_express" (8 steps), "qr" (Cholesky QR)
};

// a, m (d,r) S; g (d,r) S is overwritten. g = 0 and m = 0 leave a as it is up to the rounding of its retraction.
void spel_step(Context& ctx, Tensor a, Tensor m, Tensor g, double alpha,
               const SpelOptions& options);

// a (d,r) S to the nearest matrix with orthonormal columns; it is one but for a small step.
void retract(Context& ctx, Tensor a, const std::string& retraction);

// x (d,r) S loses what is not tangent at a (d,r): x - a sym(a^T x).
void project_to_tangent(Context& ctx, Tensor x, Tensor a);

}  // namespace strait
