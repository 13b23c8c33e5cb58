// The basis of method `subspace` moves every few hundred steps towards the gradients that the boundaries lose (specs/subspace_models.md,
// section 5; Grassmann step: engine/manifold/grassmann.h).
//
//   every microbatch  receiver of the last boundary: Y += G^T (G U), e += ||G||^2, G (N,d) before it is reduced to its coordinates
//   every step        nothing else
//   every update      the last stage computes U+ from U and Y on the host and sends it up the chain, d k s bytes a link (s: bytes of S);
//                     every stage, between two optimizer steps, re-bases what is held to U, takes U+ for U and counts the version
//
// Re-basing with R = U^T U+ (5.3): `project` keeps the weights as near as the new subspace allows, `keep` keeps coordinates.
//
//   Z, E and their first moments (C)           Z R               unchanged
//   W, T_S (A, B), first moments of A          (W U+) U+^T       (W U) U+^T
//   second moments, first moments of B         unchanged         unchanged   (B's are of gradients at full width)
//
// States: subspace.U on every rank, subspace.version there, subspace.Y and subspace.e on the last.
#pragma once

#include <memory>

#include "engine/codec/projection.h"
#include "engine/codec/subspace.h"

namespace strait {

// For one end of boundary `boundary`. `options.update_every` > 0.
std::unique_ptr<BasisMotion> make_basis_motion(const MethodContext& c, const MethodOptions& options,
                                               SubspaceVariant variant, Buffer* basis, int boundary,
                                               BoundaryEnd end);

}  // namespace strait
