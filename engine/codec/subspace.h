// Method `subspace`: Subspace Networks (Ramasinghe, Ajanthan, Avraham, Zuo, Long: "Protocol Models", arXiv 2506.01260;
// NeurIPS 2025), specs/subspace_models.md. What a layer but those of the last stage writes into the residual stream lies in the span of a
// basis U; U and T_fixed are from a seed and the same on every rank.
//
//   embedding    x = T_fixed[id] + E[id] U^T                    E (V,k) trainable, first stage      section 0.2, 1.3
//   projections  y = (f Z) U^T                                  Z (in,k) trainable, all but the last stage
//   forward      send c = (x - T_fixed[ids]) U and the ids;     receiver x = c U^T + T_fixed[ids]   section 2
//   backward     send gamma = g U;                              sender  g^ = gamma U^T              section 3
//   bytes        forward N (k w + i), backward N k w            i = 2 (V <= 65536) or 4             section 7
//
// That is variant C, W = Z U^T by construction. Variants A and B (section 4) store W (in,d) and T_S (V,d) instead and keep their rows in
// the span (subspace_full.h). U may move (section 5; subspace_motion.h).
#pragma once

#include <string_view>

#include "engine/codec/method.h"

namespace strait {

enum class SubspaceVariant { reparametrised, projected_gradient, projected_weights };

// Ends of names: what a plain model calls X.weight (d,in) is X.coordinates (in,k) in variant C and X.in_subspace (in,d) in A and B; for
// the embedding V stands for `in`, and the plain (V,d) is not transposed.
inline constexpr std::string_view kCoordinates = ".coordinates", kInSubspace = ".in_subspace";

std::unique_ptr<Method> make_subspace(const MethodOptions& options, const ModelShape& shape,
                                      DType compute);

// The basis (d,k) in S, a state "subspace.U", and the frozen token table (V,d) in T; the same bits on every rank.
Buffer* subspace_basis(ParameterList& parameters, const ModelShape& shape, int rank, uint64_t seed);
Buffer* subspace_token_table(ParameterList& parameters, const ModelShape& shape, uint64_t seed);

}  // namespace strait
