// Method `none`: activations and gradients go over the boundary as they are, rounded once to the wire type.
#pragma once

#include "engine/codec/method.h"

namespace strait {

std::unique_ptr<Method> make_none(const MethodOptions& options, const ModelShape& shape,
                                  DType compute);

}  // namespace strait
