// `quantize`: whole numbers of 8 or 4 bits with a bf16 scale a token or a group of neighbours, symmetric, rounded to the nearest or at random
// (ops quantize_rows, dequantize_rows). Random numbers are a function of (seed, boundary, direction, copy, step, microbatch, element): the same on every
// backend, and when a training goes on.
#include <algorithm>

#include "engine/codec/tensor_codec.h"

namespace strait {
namespace {

class QuantizeCodec final : public TensorCodec {
 public:
  QuantizeCodec(const DirectionOptions& o, const TensorCodecContext& c)
      : pool_(c.method.pool),
        kind_(o.bits == 8 ? Quantization::int8 : Quantization::int4),
        group_(o.scale == "token" ? c.method.shape.width
                                  : std::min<int64_t>(o.group, c.method.shape.width)),
        stochastic_(o.rounding == "stochastic"),
        rng_{c.method.seed},
        name_(c.name("rounding")) {}

  Message encode(Context& ctx, Frame& frame, Tensor x) override {
    const int64_t N = x.size(0), d = x.size(1);
    Message m(pool_, ctx.ops,
              {{DType::bf16, {N, (d + group_ - 1) / group_}},
               {DType::u8, {N, kind_ == Quantization::int8 ? d : (d + 1) / 2}}});
    ctx.ops.quantize_rows(m.section(1), m.section(0), x, kind_, group_,
                          {stochastic_, rng_, stream(frame)});
    return m;
  }
  void decode(Context& ctx, Frame&, Tensor y, const Message& m) override {
    ctx.ops.dequantize_rows(y, m.section(1), m.section(0), kind_, group_);
  }

 private:
  uint64_t stream(const Frame& frame) const {
    const uint64_t microbatch =
        static_cast<uint64_t>(frame.step) << 24 | static_cast<uint64_t>(frame.microbatch);
    // Each copy of the boundary has its own noise.
    return hash_name(
        name_, frame.copy == 0 ? microbatch
                               : hash_name("copy", static_cast<uint64_t>(frame.copy)) ^ microbatch);
  }

  MessagePool& pool_;
  Quantization kind_;
  int64_t group_;
  bool stochastic_;
  Philox rng_;
  std::string name_;
};

}  // namespace

std::unique_ptr<TensorCodec> make_quantize_codec(const DirectionOptions& options, int64_t,
                                                 const TensorCodecContext& c) {
  return std::make_unique<QuantizeCodec>(options, c);
}

}  // namespace strait
