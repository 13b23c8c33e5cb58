// Method `subspace`: Subspace Networks (Ramasinghe, Ajanthan, Avraham, Zuo, Long: "Protocol Models", arXiv 2506.01260;
// NeurIPS 2025), variant C of specs/subspace_models.md: W = Z U^T by construction, U and T_fixed frozen and from a seed.
//
//   embedding    x = T_fixed[id] + E[id] U^T                    E (V,k) trainable, first stage      section 0.2, 1.3
//   projections  y = (f Z) U^T                                  Z (in,k) trainable, all but the last stage
//   forward      send c = (x - T_fixed[ids]) U and the ids;     receiver x = c U^T + T_fixed[ids]   section 2
//   backward     send gamma = g U;                              sender  g^ = gamma U^T              section 3
//   bytes        forward N (k w + i), backward N k w            i = 2 (V <= 65536) or 4             section 7
#pragma once

#include "engine/codec/method.h"

namespace strait {

std::unique_ptr<Method> make_subspace(const MethodOptions& options, const ModelShape& shape,
                                      DType compute);

// The frozen basis (d,k) in S, and the frozen token table (V,d) in T; the same bits on every rank.
Buffer* subspace_basis(ParameterList& parameters, const ModelShape& shape, int rank, uint64_t seed);
Buffer* subspace_token_table(ParameterList& parameters, const ModelShape& shape, uint64_t seed);

}  // namespace strait
