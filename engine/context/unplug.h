// The end of a mixture of subspaces: a plain model that goes on from its parameters (specs/mixture_of_subspaces.md 8).
#pragma once

#include "engine/nn/model_shape.h"
#include "engine/nn/parameter_state.h"

namespace strait {

// What names of parameters and states of mixtures of subspaces have in common (mixture_of_subspaces.h).
inline constexpr const char* kMixtureStates = ".self_attn.mixture.";

// The parameters of `plain`, with the key and value projections of each layer folded onto the bases that `stored` has for it,
// W <- Ubar Ubar^T W; layers without bases as they are. `shape`: of the model. Moments stay. Asked for a projection, throws
// std::invalid_argument where its bases do not fit it.
ParameterSource unplugged(ParameterSource plain, ParameterSource stored, const ModelShape& shape);

}  // namespace strait
