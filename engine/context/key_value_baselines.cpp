#include "engine/context/key_value_baselines.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "engine/codec/tensor_codec.h"

namespace strait {
namespace {

// Rows (N,w) of some float type as two tensors on the wire.
class RowFormat {
 public:
  virtual ~RowFormat() = default;
  // Of one matrix: those with the wider type first.
  virtual Sections sections(int64_t rows, int64_t width, DType values) const = 0;
  virtual void encode(Backend& ops, const Tensor& first, const Tensor& second,
                      const Tensor& x) const = 0;
  virtual void decode(Backend& ops, const Tensor& y, const Tensor& first,
                      const Tensor& second) const = 0;
};

class QuantizedRows final : public RowFormat {
 public:
  explicit QuantizedRows(const KeyValueBaselineOptions& o)
      : kind_(o.bits == 8 ? Quantization::int8 : Quantization::int4), group_(o.group) {}
  Sections sections(int64_t rows, int64_t width, DType) const override {
    const int64_t group = std::min(group_, width);
    return {{DType::bf16, {rows, (width + group - 1) / group}},
            {DType::u8, {rows, kind_ == Quantization::int8 ? width : (width + 1) / 2}}};
  }
  void encode(Backend& ops, const Tensor& scale, const Tensor& codes,
              const Tensor& x) const override {
    ops.quantize_rows(codes, scale, x, kind_, std::min(group_, x.size(1)), {});
  }
  void decode(Backend& ops, const Tensor& y, const Tensor& scale,
              const Tensor& codes) const override {
    ops.dequantize_rows(y, codes, scale, kind_, std::min(group_, y.size(1)));
  }

 private:
  Quantization kind_;
  int64_t group_;
};

class LargestEntries final : public RowFormat {
 public:
  explicit LargestEntries(const KeyValueBaselineOptions& o) : keep_(o.keep) {}
  Sections sections(int64_t rows, int64_t width, DType values) const override {
    const auto k =
        std::max<int64_t>(1, static_cast<int64_t>(std::lround(keep_ * static_cast<double>(width))));
    return {{values, {rows, k}}, {entry_index(width), {rows, k}}};
  }
  void encode(Backend& ops, const Tensor& entries, const Tensor& indices,
              const Tensor& x) const override {
    ops.topk_rows(entries, indices, x);
  }
  void decode(Backend& ops, const Tensor& y, const Tensor& entries,
              const Tensor& indices) const override {
    ops.scatter_entries(y, entries, indices);
  }

 private:
  double keep_;
};

class KeyValueBaseline final : public KeyValueCodec {
 public:
  KeyValueBaseline(const KeyValueBaselineOptions& o, DType t, const Buffer* rope)
      : type_(t),
        wire_(o.wire.value_or(t)),
        gradient_wire_(o.gradient_wire.value_or(statistics_of(t))),
        codes_gradients_(o.gradients == "same"),
        rope_(rope) {
    if (o.method == "quantize")
      format_ = std::make_unique<QuantizedRows>(o);
    else
      format_ = std::make_unique<LargestEntries>(o);
  }

  Sections payload(const KeyValueShape& s) const override { return coded(s, wire_); }
  Sections gradient(const KeyValueShape& s) const override {
    if (codes_gradients_) return coded(s, gradient_wire_);
    return {{gradient_wire_, s.shape()}, {gradient_wire_, s.shape()}};
  }
  Sections accumulator(const KeyValueShape& s) const override {
    return {{statistics_of(type_), s.shape()}, {statistics_of(type_), s.shape()}};
  }
  bool splits_heads() const override { return true; }

  void encode(Context& ctx, Frame& /*frame*/, const Tensors& payload, const KeyValueSource& pre,
              const KeyValuePiece& piece) override {
    for (size_t z = 0; z < 2; ++z) {
      ArenaScope scope(ctx.scratch);
      const Tensor x = ctx.scratch.take(piece.shape.shape(), type_);
      ctx.ops.cast(x, z == 0 ? pre.k : pre.v);
      format_->encode(ctx.ops, payload[2 * z], payload[2 * z + 1], rows(x));
    }
  }

  KeyValue decode(Context& ctx, Frame& /*frame*/, const Tensors& payload,
                  const KeyValuePiece& piece) override {
    const KeyValue kv{ctx.scratch.take(piece.shape.shape(), type_),
                      ctx.scratch.take(piece.shape.shape(), type_)};
    format_->decode(ctx.ops, rows(kv.k), payload[0], payload[1]);
    format_->decode(ctx.ops, rows(kv.v), payload[2], payload[3]);
    ctx.ops.rope(kv.k, rope_->value, piece.positions, false);
    return kv;
  }

  KeyValue gradient_views(const Tensors& accumulator) const override {
    return {accumulator[0], accumulator[1]};
  }

  void encode_gradient(Context& ctx, Frame& frame, const Tensors& wire,
                       const Tensors& accumulator) override {
    if (!codes_gradients_) return KeyValueCodec::encode_gradient(ctx, frame, wire, accumulator);
    for (size_t z = 0; z < 2; ++z)
      format_->encode(ctx.ops, wire[2 * z], wire[2 * z + 1], rows(accumulator[z]));
  }

  void add_gradient(Context& ctx, Frame& frame, const Tensors& accumulator, const Tensors& wire,
                    bool accumulate) override {
    if (!codes_gradients_)
      return KeyValueCodec::add_gradient(ctx, frame, accumulator, wire, accumulate);
    for (size_t z = 0; z < 2; ++z) {
      ArenaScope scope(ctx.scratch);
      const Tensor& sum = accumulator[z];
      const Tensor arrived = accumulate ? ctx.scratch.take(sum.shape, sum.dtype) : sum;
      format_->decode(ctx.ops, rows(arrived), wire[2 * z], wire[2 * z + 1]);
      if (accumulate) ctx.ops.axpy(sum, 1.0, arrived);
    }
  }

  void encode_backward(Context& ctx, Frame& /*frame*/, const KeyValueSource& dpre,
                       const Tensors& accumulator, const KeyValuePiece& piece) override {
    ctx.ops.rope(accumulator[0], rope_->value, piece.positions, true);
    ctx.ops.cast(dpre.k, accumulator[0]);
    ctx.ops.cast(dpre.v, accumulator[1]);
  }

  // "key_error", "value_error": ||x - x^|| / ||x||, x^ what everybody computes with, coded with all key heads at once.
  Diagnosis diagnose(Context& ctx, const Frame& /*frame*/, const KeyValue& pre) override {
    Diagnosis found;
    for (const auto& [name, given] :
         {std::pair("key_error", pre.k), std::pair("value_error", pre.v)}) {
      ArenaScope scope(ctx.scratch);
      const Tensor x = ctx.scratch.take(given.shape, type_),
                   arrived = ctx.scratch.take(given.shape, type_),
                   lost = ctx.scratch.take(given.shape, statistics_of(type_));
      ctx.ops.cast(x, given);
      const Sections coded = format_->sections(rows(x).size(0), rows(x).size(1), wire_);
      const Tensor first = ctx.scratch.take(coded[0].shape, coded[0].dtype),
                   second = ctx.scratch.take(coded[1].shape, coded[1].dtype);
      format_->encode(ctx.ops, first, second, rows(x));
      format_->decode(ctx.ops, rows(arrived), first, second);
      ctx.ops.cast(lost, arrived);
      ctx.ops.axpy(lost, -1.0, x);
      found.emplace_back(name, std::sqrt(sum_of_squares(ctx, lost) / sum_of_squares(ctx, x)));
    }
    return found;
  }

 private:
  // (B,tokens,heads,Dh), contiguous, as rows of all heads.
  static Tensor rows(const Tensor& x) {
    return x.view({x.size(0) * x.size(1), x.size(2) * x.size(3)});
  }
  Sections coded(const KeyValueShape& s, DType values) const {
    Sections both = format_->sections(s.sequences * s.tokens, s.heads * s.head_width, values);
    both.insert(both.end(), {both[0], both[1]});
    return both;
  }

  DType type_, wire_, gradient_wire_;
  bool codes_gradients_;
  const Buffer* rope_;
  std::unique_ptr<RowFormat> format_;
};

[[noreturn]] void refuse(const char* option, const std::string& value, const std::string& allowed) {
  throw std::invalid_argument(
      fmt::format("keys and values, {}: {} is not possible; allowed: {}", option, value, allowed));
}

void validate(const KeyValueBaselineOptions& o, DType t) {
  if (o.method != "quantize" && o.method != "topk") refuse("method", o.method, "quantize, topk");
  if (o.bits != 8 && o.bits != 4) refuse("bits", std::to_string(o.bits), "8, 4");
  if (o.group < 2 || o.group % 2 != 0)
    refuse("group", std::to_string(o.group), "even numbers from 2");
  if (!(o.keep > 0 && o.keep <= 1)) refuse("keep", fmt::format("{}", o.keep), "above 0, at most 1");
  if (o.gradients != "none" && o.gradients != "same")
    refuse("gradients", o.gradients, "none, same");
  for (const auto& [option, given, own] :
       {std::tuple("wire_dtype", o.wire, t),
        std::tuple("grad_wire_dtype", o.gradient_wire, statistics_of(t))})
    if (given.value_or(own) != own && *given != DType::bf16)
      refuse(option, name_of(*given), fmt::format("{}, bf16", name_of(own)));
}

}  // namespace

std::unique_ptr<KeyValueCodec> make_key_value_baseline(const KeyValueBaselineOptions& options,
                                                       DType t, const Buffer* rope) {
  validate(options, t);
  return std::make_unique<KeyValueBaseline>(options, t, rope);
}

}  // namespace strait
