// The methods that any learned one must beat: codecs of arbitrary (N,d) tensors, one for the activations and one for the gradients of every
// boundary (docs/codecs.md). With d = C, w the bytes of the wire type and N tokens a message:
//
//   none         N d w                                 as they are
//   cast         N d 2;  fp8_e4m3: N d + 2 N           another number format
//   quantize     N (ceil(d bits / 8) + 2 groups)       whole numbers with a scale a token or a group
//   topk         N k (w + i)                           the k largest entries of each token; i = 1 (d <= 256) or 2
//   column_mask  N m w + min(2 m, ceil(d/8))           the m columns of largest energy; their gradients N m w; with anchors N i more forward,
//                                                      i = 2 or 4 the bytes of a token id
//   lowrank      (N + d) r w                           a factorisation of rank r
#pragma once

#include "engine/codec/method.h"

namespace strait {

// The method of `options`, with the gradients' as options.backward says, or the same. Throws std::invalid_argument where options do not fit.
std::unique_ptr<Method> make_baseline(const MethodOptions& options, const ModelShape& shape,
                                      DType compute);
std::vector<std::string> baseline_names();

}  // namespace strait
