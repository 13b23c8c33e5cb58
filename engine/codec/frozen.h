// Method `frozen`: a random orthonormal projection at each boundary, one basis a boundary, and nothing else: the model is a plain LLaMA
// whose activations lose what lies outside (specs/subspace_models.md, section 8.1, "boundary only"; the frozen baseline of
// specs/mapl.md). The gradient is exact for the projected model. Formulas and bytes: engine/codec/projection.h.
#pragma once

#include "engine/codec/method.h"

namespace strait {

// Throws std::invalid_argument where options do not fit the shape.
std::unique_ptr<Method> make_frozen(const MethodOptions& options, const ModelShape& shape,
                                    DType compute);

}  // namespace strait
