// Method none of context parallelism: keys and values travel after RoPE, rounded once to the type of the wire, and every rank, their
// owner included, computes with the rounded ones (specs/context_parallelism.md 12). Gradients are summed in S and rounded where
// they are sent.
#include <fmt/format.h>

#include <stdexcept>

#include "engine/context/key_value_codec.h"

namespace strait {
namespace {

class PlainKeyValues final : public KeyValueCodec {
 public:
  PlainKeyValues(const PlainKeyValueOptions& options, DType t, const Buffer* rope)
      : type_(t),
        wire_(options.wire.value_or(t)),
        gradient_wire_(options.gradient_wire.value_or(statistics_of(t))),
        rope_(rope) {
    const auto allow = [](const char* option, DType given, DType other) {
      if (given == other || given == DType::bf16) return;
      throw std::invalid_argument(fmt::format("{}: {} is not possible here, but {} and bf16 are",
                                              option, name_of(given), name_of(other)));
    };
    allow("kv_wire_dtype", wire_, t);
    allow("dkv_wire_dtype", gradient_wire_, statistics_of(t));
  }

  Sections payload(const KeyValueShape& shape) const override {
    return {{wire_, shape.shape()}, {wire_, shape.shape()}};
  }
  Sections gradient(const KeyValueShape& shape) const override {
    return {{gradient_wire_, shape.shape()}, {gradient_wire_, shape.shape()}};
  }
  Sections accumulator(const KeyValueShape& shape) const override {
    const DType s = statistics_of(type_);
    return {{s, shape.shape()}, {s, shape.shape()}};
  }
  bool splits_heads() const override { return true; }

  void encode(Context& ctx, Frame& /*frame*/, const Tensors& payload, const KeyValueSource& pre,
              const KeyValuePiece& piece) override {
    ctx.ops.cast(payload[1], pre.v);
    ArenaScope scope(ctx.scratch);
    const bool as_it_is = wire_ == type_;
    Tensor k = as_it_is ? payload[0] : ctx.scratch.take(payload[0].shape, type_);
    ctx.ops.cast(k, pre.k);
    ctx.ops.rope(k, rope_->value, piece.positions, false);
    if (!as_it_is) ctx.ops.cast(payload[0], k);
  }

  KeyValue decode(Context& ctx, Frame& /*frame*/, const Tensors& payload,
                  const KeyValuePiece& /*piece*/) override {
    if (wire_ == type_) return {payload[0], payload[1]};
    KeyValue kv{ctx.scratch.take(payload[0].shape, type_),
                ctx.scratch.take(payload[1].shape, type_)};
    ctx.ops.cast(kv.k, payload[0]);
    ctx.ops.cast(kv.v, payload[1]);
    return kv;
  }

  KeyValue gradient_views(const Tensors& accumulator) const override {
    return {accumulator[0], accumulator[1]};
  }

  void encode_backward(Context& ctx, Frame& /*frame*/, const KeyValueSource& dpre,
                       const Tensors& accumulator, const KeyValuePiece& piece) override {
    ctx.ops.rope(accumulator[0], rope_->value, piece.positions, true);
    ctx.ops.cast(dpre.k, accumulator[0]);
    ctx.ops.cast(dpre.v, accumulator[1]);
  }

 private:
  DType type_, wire_, gradient_wire_;
  const Buffer* rope_;
};

}  // namespace

std::unique_ptr<KeyValueCodec> make_plain_key_values(const PlainKeyValueOptions& options, DType t,
                                                     const Buffer* rope) {
  return std::make_unique<PlainKeyValues>(options, t, rope);
}

}  // namespace strait
