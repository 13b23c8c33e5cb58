#include "engine/codec/baseline.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "engine/codec/projection.h"
#include "engine/codec/tensor_codec.h"

namespace strait {
namespace {

// Bytes of a message of `rows` rows of `width` columns; `ids`: bytes of a token id where it travels, else 0; `adjoint`: of gradients that follow the
// activations' messages.
struct MessageShape {
  int64_t rows, width, size, wire, ids;
  bool adjoint;
};

using Bytes64 = int64_t(const DirectionOptions&, const MessageShape&);

int64_t plain_bytes(const DirectionOptions&, const MessageShape& m) {
  return m.rows * m.width * m.wire;
}
int64_t cast_bytes(const DirectionOptions& o, const MessageShape& m) {
  return o.format == "fp8_e4m3" ? m.rows * (m.width + 2) : m.rows * m.width * 2;
}
int64_t quantize_bytes(const DirectionOptions& o, const MessageShape& m) {
  const int64_t groups = o.scale == "token" ? 1 : (m.width + o.group - 1) / o.group;
  return m.rows * ((m.width * o.bits + 7) / 8 + 2 * groups);
}
int64_t topk_bytes(const DirectionOptions&, const MessageShape& m) {
  return m.rows * m.size * (m.wire + static_cast<int64_t>(size_of(entry_index(m.width))));
}
int64_t column_mask_bytes(const DirectionOptions&, const MessageShape& m) {
  return m.rows * m.size * m.wire + (m.adjoint ? 0 : mask_bytes(m.size, m.width) + m.rows * m.ids);
}
int64_t lowrank_bytes(const DirectionOptions&, const MessageShape& m) {
  return (m.rows + m.width) * m.size * m.wire;
}

struct Registered {
  std::string_view name;
  const char* size;  // what `rank` is called in words; null: there is none
  bool adjoint;      // gradients without options of their own follow the activations' messages
  Bytes64* bytes;
  MakeTensorCodec* make;
};
constexpr Registered kBaselines[] = {
    {"none", nullptr, false, plain_bytes, make_plain_codec},
    {"cast", nullptr, false, cast_bytes, make_cast_codec},
    {"quantize", nullptr, false, quantize_bytes, make_quantize_codec},
    {"topk", "entries a token", false, topk_bytes, make_topk_codec},
    {"column_mask", "columns", true, column_mask_bytes, make_column_mask_codec},
    {"lowrank", "ranks", false, lowrank_bytes, make_lowrank_codec},
};

const Registered& registered(const std::string& name) {
  for (const Registered& r : kBaselines)
    if (r.name == name) return r;
  throw std::invalid_argument(
      fmt::format("compression method \"{}\" codes no gradients alone; allowed: {}", name,
                  fmt::join(baseline_names(), ", ")));
}

// One direction, with its size picked.
struct Direction {
  DirectionOptions options;
  const Registered* baseline;
  int64_t size = 0, ids = 0;  // as MessageShape's
  bool adjoint = false;

  int64_t bytes(int64_t rows, int64_t width) const {
    return baseline->bytes(
        options, {rows, width, size, static_cast<int64_t>(size_of(options.wire)), ids, adjoint});
  }
  bool has_state() const {
    return (options.method == "topk" && options.error_feedback != "none") ||
           (options.method == "column_mask" && options.refresh > 0 && !adjoint) ||
           options.method == "lowrank";
  }
  std::string text() const {
    const DirectionOptions& o = options;
    return fmt::format("{} {} {} {} {} {} {} {} {} {} {} {}", o.method, name_of(o.wire), size,
                       o.format, o.bits, o.scale, o.group, o.rounding, o.error_feedback, o.refresh,
                       o.anchors, adjoint);
  }
};

void check_word(const DirectionOptions& o, const char* option, const std::string& found,
                const std::vector<std::string>& allowed) {
  if (std::find(allowed.begin(), allowed.end(), found) == allowed.end())
    throw std::invalid_argument(fmt::format("{} {} is \"{}\"; allowed: {}", o.method, option, found,
                                            fmt::join(allowed, ", ")));
}

void check(const DirectionOptions& o, const Registered& r) {
  if (r.size == nullptr && (o.rank || o.ratio))
    throw std::invalid_argument(
        fmt::format("compression method \"{}\" takes neither rank nor ratio", o.method));
  if (r.size != nullptr && o.rank.has_value() == o.ratio.has_value())
    throw std::invalid_argument(fmt::format(
        "compression method \"{}\" takes exactly one of rank ({}) and ratio", o.method, r.size));
  check_word(o, "format", o.format, {"bf16", "fp16", "fp8_e4m3"});
  check_word(o, "bits", std::to_string(o.bits), {"8", "4"});
  check_word(o, "scale", o.scale, {"token", "group"});
  check_word(o, "rounding", o.rounding, {"nearest", "stochastic"});
  check_word(o, "error_feedback", o.error_feedback, {"none", "per_microbatch"});
  check_word(o, "anchors", o.anchors, {"none", "static"});
  if (o.group < 2 || o.group % 2 != 0)
    throw std::invalid_argument(
        fmt::format("{} group is {}; allowed: even numbers from 2", o.method, o.group));
  if (o.refresh < 0)
    throw std::invalid_argument(
        fmt::format("{} refresh is {}; it must be 0 or positive", o.method, o.refresh));
}

// Picks the size of all `directions`, which share one, so that together they come closest to their wire ratio.
void pick_size(const std::vector<Direction*>& directions, const ModelShape& shape, DType compute,
               const BatchShape& batch) {
  const Direction& first = *directions.front();
  const DirectionOptions& o = first.options;
  if (first.baseline->size == nullptr) return;
  if (o.rank) {
    if (*o.rank < 1 || *o.rank > shape.width)
      throw std::invalid_argument(fmt::format("{}: {} {} are outside 1 to the model's width {}",
                                              o.method, *o.rank, first.baseline->size,
                                              shape.width));
    for (Direction* d : directions) d->size = *o.rank;
    return;
  }
  const int64_t rows = batch.rows > 0 ? batch.rows : shape.context;
  const double dense = static_cast<double>(directions.size()) * static_cast<double>(rows) *
                       shape.width * static_cast<double>(size_of(compute));
  const auto achieved = [&](int64_t size) {
    int64_t bytes = 0;
    for (Direction* d : directions) {
      d->size = size;
      bytes += d->bytes(rows, shape.width);
    }
    return dense / static_cast<double>(bytes);
  };
  const auto distance = [&](int64_t size) { return std::abs(std::log(achieved(size) / *o.ratio)); };
  int64_t best = 1;
  for (int64_t size = 2; size <= shape.width; ++size)
    if (distance(size) < distance(best)) best = size;
  if (!(*o.ratio > 0) || distance(best) > std::log(2.0))
    throw std::invalid_argument(
        fmt::format("compression ratio {} cannot be reached by {} at width {}: 1 to {} {} give "
                    "{:.4g} to {:.4g}",
                    *o.ratio, o.method, shape.width, shape.width, first.baseline->size, achieved(1),
                    achieved(shape.width)));
  achieved(best);
}

class BaselineCodec final : public Codec {
 public:
  BaselineCodec(const MethodContext& c, const BatchShape& batch, const Direction& forward,
                const Direction& backward, int boundary, BoundaryEnd end)
      : width_(c.shape.width),
        compute_(c.parameters.dtype()),
        forward_(forward),
        backward_(backward) {
    const bool sender = end == BoundaryEnd::sender;
    activations_ = forward.baseline->make(forward.options, forward.size,
                                          {c, batch, boundary, false, sender, backward.adjoint});
    gradients_ = backward.adjoint
                     ? activations_->adjoint()
                     : backward.baseline->make(backward.options, backward.size,
                                               {c, batch, boundary, true, !sender, false});
  }

  CodecTraits traits() const override {
    const bool plain = forward_.options.method == "none" && backward_.options.method == "none";
    return {.exact_adjoint = plain || backward_.adjoint, .needs_ids = forward_.ids > 0};
  }
  Message encode(Context& ctx, Frame& frame, Tensor x) override {
    return with_dense(activations_->encode(ctx, frame, x), x);
  }
  void decode(Context& ctx, Frame& frame, Tensor x, const Message& m) override {
    activations_->decode(ctx, frame, x, m);
  }
  Message encode_grad(Context& ctx, Frame& frame, Tensor dx) override {
    return with_dense(gradients_->encode(ctx, frame, dx), dx);
  }
  void decode_grad(Context& ctx, Frame& frame, Tensor dx, const Message& m) override {
    gradients_->decode(ctx, frame, dx, m);
  }

  uint64_t handshake(Backend& ops) const override {
    const uint64_t sizes = static_cast<uint64_t>(width_) << 8 | static_cast<uint64_t>(compute_);
    return hash_name(forward_.text() + " / " + backward_.text(), sizes ^ activations_->shared(ops));
  }

  // ..._error: ||x - x^|| / ||x||, x^ what arrives; without error feedback, which makes up for it later.
  Diagnosis diagnose(Context& ctx, Frame& frame, Tensor x) override {
    return look(*activations_, ctx, frame, x, "activation");
  }
  Diagnosis diagnose_grad(Context& ctx, Frame& frame, Tensor dx) override {
    return look(*gradients_, ctx, frame, dx, "gradient");
  }

  std::pair<uint64_t, uint64_t> expected_bytes(int64_t rows) const override {
    return {static_cast<uint64_t>(forward_.bytes(rows, width_)),
            static_cast<uint64_t>(backward_.bytes(rows, width_))};
  }

 private:
  static Message with_dense(Message m, const Tensor& x) {
    m.dense = {x.bytes()};
    return m;
  }
  static Diagnosis look(TensorCodec& codec, Context& ctx, const Frame& frame, const Tensor& x,
                        const std::string& what) {
    ArenaScope scope(ctx.scratch);
    Frame probe =
        frame;  // no state changes, and what it takes of the arena's copy is free again after
    probe.training = false;
    Frame other_end = probe;
    const Message m = codec.encode(ctx, probe, x);
    Tensor arrived = ctx.scratch.take(x.shape, x.dtype),
           lost = ctx.scratch.take(x.shape, statistics_of(x.dtype));
    codec.decode(ctx, other_end, arrived, m);
    ctx.ops.cast(lost, arrived);
    ctx.ops.axpy(lost, -1.0, x);
    const double all = sum_of_squares(ctx, x);
    return {{what + "_rms", std::sqrt(all / static_cast<double>(x.elements()))},
            {what + "_error", std::sqrt(sum_of_squares(ctx, lost) / all)}};
  }

  int64_t width_;
  DType compute_;
  Direction forward_, backward_;
  std::unique_ptr<TensorCodec> activations_, gradients_;
};

class BaselineMethod final : public Method {
 public:
  BaselineMethod(Direction forward, Direction backward, BatchShape batch)
      : forward_(std::move(forward)), backward_(std::move(backward)), batch_(batch) {}
  std::unique_ptr<Codec> make_codec(const MethodContext& c, int boundary,
                                    BoundaryEnd end) const override {
    return std::make_unique<BaselineCodec>(c, batch_, forward_, backward_, boundary, end);
  }
  std::optional<int> rank() const override {
    return forward_.size > 0 ? std::optional(static_cast<int>(forward_.size)) : std::nullopt;
  }
  bool adds(const std::string& name) const override { return name.starts_with("boundaries."); }
  std::string boundaries() const override {
    std::string text;
    for (const Direction* d : {&forward_, &backward_}) {
      if (!d->has_state()) continue;
      text += fmt::format("{}{} {} {}", text.empty() ? "" : ", ",
                          d == &forward_ ? "activations" : "gradients", d->options.method, d->size);
      if (d->ids > 0) text += ", static anchors";
      if (d->options.method == "topk")
        text += fmt::format(", errors of {} x {} tokens", batch_.microbatches, batch_.rows);
    }
    return text;
  }

 private:
  Direction forward_, backward_;
  BatchShape batch_;
};

}  // namespace

std::string TensorCodecContext::name(const std::string& what) const {
  return fmt::format("boundaries.{}.{}.{}", boundary, gradients ? "gradients" : "activations",
                     what);
}

std::vector<std::string> baseline_names() {
  std::vector<std::string> names;
  for (const Registered& r : kBaselines) names.emplace_back(r.name);
  return names;
}

std::unique_ptr<Method> make_baseline(const MethodOptions& options, const ModelShape& shape,
                                      DType compute) {
  Direction forward{options, &registered(options.method)};
  Direction backward = forward;
  check(forward.options, *forward.baseline);
  if (forward.options.method == "column_mask" && forward.options.anchors == "static")
    forward.ids = static_cast<int64_t>(size_of(id_dtype(shape)));
  if (options.backward) {
    backward = {*options.backward, &registered(options.backward->method)};
    check(backward.options, *backward.baseline);
    check_word(backward.options, "anchors of gradients", backward.options.anchors, {"none"});
    pick_size({&forward}, shape, compute, options.batch);
    pick_size({&backward}, shape, compute, options.batch);
  } else {
    backward.adjoint = forward.baseline->adjoint;
    pick_size({&forward, &backward}, shape, compute, options.batch);
  }
  return std::make_unique<BaselineMethod>(std::move(forward), std::move(backward), options.batch);
}

}  // namespace strait
