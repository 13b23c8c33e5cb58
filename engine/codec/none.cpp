#include "engine/codec/none.h"

#include <cmath>
#include <stdexcept>

namespace strait {
namespace {

// Forward and backward: N * C * w bytes.
class NoneCodec final : public Codec {
 public:
  NoneCodec(const MethodContext& c, DType wire)
      : pool_(c.pool), width_(c.shape.width), compute_(c.parameters.dtype()), wire_(wire) {}

  CodecTraits traits() const override { return {.exact_adjoint = true}; }
  Message encode(Context& ctx, Frame&, Tensor x) override { return pack(ctx, x); }
  void decode(Context& ctx, Frame&, Tensor x, const Message& message) override {
    ctx.ops.cast(x, message.section(0));
  }
  Message encode_grad(Context& ctx, Frame&, Tensor dx) override { return pack(ctx, dx); }
  void decode_grad(Context& ctx, Frame&, Tensor dx, const Message& message) override {
    ctx.ops.cast(dx, message.section(0));
  }
  uint64_t handshake(Backend&) const override {
    return hash_name("none", static_cast<uint64_t>(width_) << 16 |
                                 static_cast<uint64_t>(compute_) << 8 |
                                 static_cast<uint64_t>(wire_));
  }
  Diagnosis diagnose(Context& ctx, Frame&, Tensor x) override {
    return {{"activation_rms", rms(ctx, x)}};
  }
  Diagnosis diagnose_grad(Context& ctx, Frame&, Tensor dx) override {
    return {{"gradient_rms", rms(ctx, dx)}};
  }
  std::pair<uint64_t, uint64_t> expected_bytes(int64_t rows) const override {
    const auto n = static_cast<uint64_t>(rows * width_) * size_of(wire_);
    return {n, n};
  }

 private:
  static double rms(Context& ctx, const Tensor& x) {
    return std::sqrt(sum_of_squares(ctx, x) / static_cast<double>(x.elements()));
  }
  Message pack(Context& ctx, const Tensor& x) {
    Message m(pool_, ctx.ops, {{wire_, x.shape}});
    ctx.ops.cast(m.section(0), x);
    m.dense = {x.bytes()};
    return m;
  }

  MessagePool& pool_;
  int64_t width_;
  DType compute_, wire_;
};

class NoneMethod final : public Method {
 public:
  explicit NoneMethod(DType wire) : wire_(wire) {}
  std::unique_ptr<Codec> make_codec(const MethodContext& c, int, BoundaryEnd) const override {
    return std::make_unique<NoneCodec>(c, wire_);
  }

 private:
  DType wire_;
};

}  // namespace

std::unique_ptr<Method> make_none(const MethodOptions& options, const ModelShape&, DType) {
  if (options.rank || options.ratio)
    throw std::invalid_argument("compression method \"none\" takes neither rank nor ratio");
  return std::make_unique<NoneMethod>(options.wire);
}

}  // namespace strait
