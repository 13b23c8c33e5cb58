// What turns a shard's keys and values of one layer into what travels to the other shards, and back (specs/context_parallelism.md
// 14). The unit is a piece: the tokens of one stretch of the sequence that a shard holds (layout.h). With W "on the wire":
//
//   owner      encode:          K, V before RoPE        -> payload W
//   everybody  decode:          payload                 -> K, V after RoPE: what attention sees, the owner's own included
//   everybody  decode_backward: dK, dV after RoPE       -> gradient of the payload, in S
//              encode_gradient, add_gradient: to W and back, for the way to the owner, who sums in S
//   owner      encode_backward: sum of the gradients    -> dK, dV before RoPE; gradients of own parameters
//
// An owner gives its codec keys and values, or, where the codec projects(), the layer's input and the weights that would make them
// (KeyValueSource): (X W) U is then X (W U), and no tensor of the width of keys and values stands on the owner's side.
//
// One codec a layer and rank. What it keeps of a microbatch between forward and backward it keeps by frame.index, tensors in
// frame.arena; the payloads themselves are kept by the attention and given to it again. Of one piece decode() may be asked any number of
// times, before and after others.
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "engine/codec/method.h"
#include "engine/context/context_link.h"
#include "engine/context/layout.h"
#include "engine/context/piece_message.h"
#include "engine/nn/module.h"

namespace strait {

struct KeyValue {
  Tensor k, v;
  bool defined() const { return k.defined(); }
};

// What a codec is given by the owner, of all its tokens or of a piece: k, v (B,tokens,Hkv,Dh) T before RoPE, strided in all but the last
// two; or, where it projects(), x (B,tokens,C) T, strided in all but the last, that makes them with the last 2 Hkv Dh rows of `qkv`
// ((H + 2 Hkv) Dh, C). As a gradient the same, overwritten: dk, dv; or dx alone, while the rows' gradient is added to qkv->grad.
struct KeyValueSource {
  Tensor k = {}, v = {};
  Tensor x = {};
  Parameter* qkv = nullptr;
};

// Of a piece: (sequences, tokens, heads, head width).
struct KeyValueShape {
  int64_t sequences = 0, tokens = 0, heads = 0, head_width = 0;
  Shape shape() const { return {sequences, tokens, heads, head_width}; }
};

// Which piece.
struct KeyValuePiece {
  int shard = 0;       // its owner
  int index = 0;       // < pieces a shard
  int first_head = 0;  // of the layer's key heads, where only some of them are at work
  KeyValueShape shape;
  Tensor positions;  // (tokens) i32, global
};

// A piece of this shard: before encode(), what it will be given; before encode_backward(), the sum of its payload's gradients.
struct OwnPiece {
  KeyValuePiece piece;
  KeyValueSource pre;
  Tensors accumulator;
};

class KeyValueCodec {
 public:
  virtual ~KeyValueCodec() = default;

  // Of one piece; they depend on the shape alone. `gradient`: the payload's gradient on the wire. `accumulator`: where it is summed; its
  // float sections are S.
  virtual Sections payload(const KeyValueShape& shape) const = 0;
  virtual Sections gradient(const KeyValueShape& shape) const = 0;
  virtual Sections accumulator(const KeyValueShape& shape) const = 0;
  // Whether heads can be encoded a few at a time (first_head).
  virtual bool splits_heads() const = 0;
  // Whether it is given x and qkv instead of keys and values, now: the same for a forward and its backward, on all shards. Of a frame that
  // trains, x then stays where it is until the backward. Not with splits_heads().
  virtual bool projects() const { return false; }

  // Once before the pieces of this shard are encoded, and once before encode_backward() of them: the place for what the owners of
  // different pieces tell each other, and the only one where a codec sends and receives. Called on all shards alike. Tags of its messages have the
  // frame's microbatch and negative purposes, unique for the layer.
  virtual void before_encode(Context& /*ctx*/, Frame& /*frame*/, ContextLink& /*link*/,
                             const SequenceLayout& /*layout*/,
                             const std::vector<OwnPiece>& /*pieces*/) {}
  virtual void before_encode_backward(Context& /*ctx*/, Frame& /*frame*/, ContextLink& /*link*/,
                                      const SequenceLayout& /*layout*/,
                                      const std::vector<OwnPiece>& /*pieces*/) {}

  virtual void encode(Context& ctx, Frame& frame, const Tensors& payload, const KeyValueSource& pre,
                      const KeyValuePiece& piece) = 0;
  // (B,tokens,Hkv,Dh) T after RoPE: in the payload itself, or in scratch, which the caller rewinds.
  virtual KeyValue decode(Context& ctx, Frame& frame, const Tensors& payload,
                          const KeyValuePiece& piece) = 0;
  // Where the accumulator holds the gradient of what decode() gave as it is: those views of it, so that attention writes into them and
  // decode_backward() is not asked. Else nothing.
  virtual KeyValue gradient_views(const Tensors& /*accumulator*/) const { return {}; }
  // accumulator [+]= the payload's gradient; `gradient` (B,tokens,Hkv,Dh) S, that of what decode() gave; may be overwritten.
  virtual void decode_backward(Context& /*ctx*/, Frame& /*frame*/, const Tensors& /*accumulator*/,
                               const KeyValue& /*gradient*/, const Tensors& /*payload*/,
                               const KeyValuePiece& /*piece*/, bool /*accumulate*/) {
    STRAIT_CHECK(false, "a codec without gradient_views() has its own decode_backward()");
  }
  // Between accumulator and wire; asked only where their sections differ. Default: section by section, rounded.
  virtual void encode_gradient(Context& ctx, Frame& frame, const Tensors& wire,
                               const Tensors& accumulator);
  // accumulator [+]= wire.
  virtual void add_gradient(Context& ctx, Frame& frame, const Tensors& accumulator,
                            const Tensors& wire, bool accumulate);
  // dpre: the gradient of what encode() was given. May change the accumulator.
  virtual void encode_backward(Context& ctx, Frame& frame, const KeyValueSource& dpre,
                               const Tensors& accumulator, const KeyValuePiece& piece) = 0;

  // The state of a codec: what is neither trained nor sent, such as a basis made from the weights.
  //
  // begin(): once, before the first step with this method where no checkpoint has its state, on all copies of the rank alike (they make
  // the same state). `qkv` ((H + 2 Hkv) Dh, C): the layer's stacked projection, whose master and value may change. Waits for the device.
  // calibrate(), where wants_calibration(): between calibrate(true) and calibrate(false), before begin(), forward passes that do not train
  // carry keys and values as method none does, and the codec gathers what its state is to be made of. On all ranks alike.
  virtual bool wants_calibration() const { return false; }
  virtual void calibrate(bool /*on*/) {}
  virtual void begin(Context& /*ctx*/, ControlLink& /*link*/, Parameter& /*qkv*/) {}
  // Once a step, after the parameters have moved, on all copies alike (Codec::end_synchronise).
  virtual void end_synchronise(Context& /*ctx*/, ControlLink& /*link*/, const StepEnd& /*end*/) {}

  // What a researcher wants to see, by name, between the forward and the backward of a frame that trains (Codec::diagnose()). pre
  // (B,n_i,Hkv,Dh) T before RoPE, strided as above: the keys and values of all pieces of this shard. Sends nothing, waits for the device.
  virtual Diagnosis diagnose(Context& /*ctx*/, const Frame& /*frame*/, const KeyValue& /*pre*/) {
    return {};
  }

  // Bytes of a piece that method none would send at the run's precision: keys and values in T, their gradients in S.
  static Bytes dense_payload(const KeyValueShape& shape, DType t);
  static Bytes dense_gradient(const KeyValueShape& shape, DType t);
};

// Method none: keys and values after RoPE as they are, rounded to the wire's type, and their gradients.
//   payload [K | V], 2 B tokens Hkv Dh elements of `wire`; gradient [dK | dV], as many of `gradient_wire`.
// `wire`: T where undefined, or bf16. `gradient_wire`: S where undefined, or bf16. Rounding is straight-through in the backward.
struct PlainKeyValueOptions {
  std::optional<DType> wire, gradient_wire;
};
// `rope` as declare_rope_table() gives it, for positions of the whole sequence. Throws std::invalid_argument for other types.
std::unique_ptr<KeyValueCodec> make_plain_key_values(const PlainKeyValueOptions& options, DType t,
                                                     const Buffer* rope);

}  // namespace strait
