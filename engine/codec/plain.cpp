// `none` and `cast`: every number as it is, rounded to another format.
//
//   bf16, fp16  N d 2 bytes. Gradients in fp16 are multiplied by fp16_gradient_factor() before they are rounded, and divided by it after.
//   fp8_e4m3    N d codes and a bf16 scale a token, max|x| / 448 (ops quantize_rows, dequantize_rows).
#include "engine/codec/tensor_codec.h"

namespace strait {
namespace {

class PlainCodec final : public TensorCodec {
 public:
  PlainCodec(DType format, const TensorCodecContext& c)
      : pool_(c.method.pool),
        format_(format),
        scales_(format == DType::f16 && c.gradients),
        statistics_(statistics_of(c.compute())) {}

  Message encode(Context& ctx, Frame& frame, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    Message m(pool_, ctx.ops, {{format_, x.shape}});
    if (scales_) {
      Tensor larger = ctx.scratch.take(x.shape, statistics_);
      ctx.ops.cast(larger, x);
      ctx.ops.scale(larger, fp16_gradient_factor(frame));
      x = larger;
    }
    ctx.ops.cast(m.section(0), x);
    return m;
  }
  void decode(Context& ctx, Frame& frame, Tensor y, const Message& m) override {
    if (!scales_) return ctx.ops.cast(y, m.section(0));
    ArenaScope scope(ctx.scratch);
    Tensor larger = ctx.scratch.take(y.shape, statistics_);
    ctx.ops.cast(larger, m.section(0));
    ctx.ops.scale(larger, 1.0 / fp16_gradient_factor(frame));
    ctx.ops.cast(y, larger);
  }

 private:
  MessagePool& pool_;
  DType format_;
  bool scales_;
  DType statistics_;
};

class Fp8Codec final : public TensorCodec {
 public:
  explicit Fp8Codec(const TensorCodecContext& c) : pool_(c.method.pool) {}
  Message encode(Context& ctx, Frame&, Tensor x) override {
    Message m(pool_, ctx.ops, {{DType::bf16, {x.size(0), 1}}, {DType::f8_e4m3, x.shape}});
    ctx.ops.quantize_rows(m.section(1), m.section(0), x, Quantization::fp8, x.size(1), {});
    return m;
  }
  void decode(Context& ctx, Frame&, Tensor y, const Message& m) override {
    ctx.ops.dequantize_rows(y, m.section(1), m.section(0), Quantization::fp8, y.size(1));
  }

 private:
  MessagePool& pool_;
};

}  // namespace

std::unique_ptr<TensorCodec> make_plain_codec(const DirectionOptions& options, int64_t,
                                              const TensorCodecContext& c) {
  return std::make_unique<PlainCodec>(options.wire, c);
}

std::unique_ptr<TensorCodec> make_cast_codec(const DirectionOptions& options, int64_t,
                                             const TensorCodecContext& c) {
  if (options.format == "fp8_e4m3") return std::make_unique<Fp8Codec>(c);
  return std::make_unique<PlainCodec>(options.format == "fp16" ? DType::f16 : DType::bf16, c);
}

}  // namespace strait
