#include "engine/context/key_value_codec.h"

namespace strait {

void KeyValueCodec::encode_gradient(Context& ctx, Frame& /*frame*/, const Tensors& wire,
                                    const Tensors& accumulator) {
  for (size_t s = 0; s < wire.size(); ++s) ctx.ops.cast(wire[s], accumulator[s]);
}

void KeyValueCodec::add_gradient(Context& ctx, Frame& /*frame*/, const Tensors& accumulator,
                                 const Tensors& wire, bool accumulate) {
  for (size_t s = 0; s < wire.size(); ++s) {
    if (accumulate)
      ctx.ops.axpy(accumulator[s], 1.0, wire[s]);
    else
      ctx.ops.cast(accumulator[s], wire[s]);
  }
}

namespace {

Bytes dense_bytes(const KeyValueShape& shape, DType type) {
  return {2 * static_cast<uint64_t>(shape.shape().elements()) * size_of(type)};
}

}  // namespace

Bytes KeyValueCodec::dense_payload(const KeyValueShape& shape, DType t) {
  return dense_bytes(shape, t);
}
Bytes KeyValueCodec::dense_gradient(const KeyValueShape& shape, DType t) {
  return dense_bytes(shape, statistics_of(t));
}

}  // namespace strait
