// A codec of (N,d) tensors in one direction of a boundary, which knows nothing of the model: the baselines are made of two of them (baseline.h).
// What it decodes stands for what was encoded, and its gradient is taken for the gradient (straight-through).
#pragma once

#include <memory>
#include <string>

#include "engine/codec/method.h"

namespace strait {

class TensorCodec {
 public:
  virtual ~TensorCodec() = default;
  // x (N,d) T. States change only where frame.training.
  virtual Message encode(Context& ctx, Frame& frame, Tensor x) = 0;
  // y (N,d) T.
  virtual void decode(Context& ctx, Frame& frame, Tensor y, const Message& message) = 0;
  // Hash of the constants that both ends must have alike.
  virtual uint64_t shared(Backend&) const { return 0; }
  // The codec of the gradients that uses what the activations' messages brought; null where it takes one of its own.
  virtual std::unique_ptr<TensorCodec> adjoint() { return nullptr; }
};

// What makes one, at one end of a boundary.
struct TensorCodecContext {
  const MethodContext& method;
  BatchShape batch;
  int boundary;
  bool gradients;  // codes these, or activations
  bool encodes;    // whether this end does: the states are here
  bool has_adjoint;

  DType compute() const { return method.parameters.dtype(); }
  // Of a state: "boundaries.0.topk.gradient.error".
  std::string name(const std::string& what) const;
};

// `size`: DirectionOptions::rank, as stated or as the ratio asks for.
using MakeTensorCodec = std::unique_ptr<TensorCodec>(const DirectionOptions& options, int64_t size,
                                                     const TensorCodecContext& c);
MakeTensorCodec make_plain_codec;  // none
MakeTensorCodec make_cast_codec, make_quantize_codec, make_topk_codec, make_column_mask_codec,
    make_lowrank_codec;

// Type of the indices of columns below `width`.
constexpr DType entry_index(int64_t width) { return width <= 256 ? DType::u8 : DType::u16; }
// Bytes of the list of `columns` of `width`: numbers of 2 bytes or a bit for each column, whichever is less.
constexpr int64_t mask_bytes(int64_t columns, int64_t width) {
  return 2 * columns < (width + 7) / 8 ? 2 * columns : (width + 7) / 8;
}

}  // namespace strait
