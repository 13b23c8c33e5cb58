#include "engine/codec/resbm.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <stdexcept>

#include "engine/codec/projection.h"
#include "engine/manifold/orthonormal.h"

namespace strait {
namespace {

// Truncated at two standard deviations, by drawing again.
Initialiser truncated_normal(uint64_t seed, const std::string& name, double stddev) {
  return [seed, stream = hash_name(name), stddev](std::vector<double>& v) {
    const Philox rng{seed};
    for (size_t i = 0; i < v.size(); ++i) {
      double x = 3;
      for (uint64_t attempt = 0; std::abs(x) > 2; ++attempt)
        x = normal_at(rng, stream, i + attempt * v.size());
      v[i] = stddev * x;
    }
  };
}

// Q - I of a random orthonormal Q (d,c), or its transpose: with the skip a boundary begins as the projector Q Q^T.
Initialiser orthonormal_without_identity(uint64_t seed, int boundary, int64_t d, int64_t c,
                                         bool transposed) {
  return [=](std::vector<double>& v) {
    std::vector<double> q(v.size());
    normal(seed, fmt::format("boundaries.{}.orthonormal", boundary), 1.0)(q);
    orthonormalise(q, d, c);
    for (int64_t i = 0; i < d; ++i)
      for (int64_t j = 0; j < c; ++j)
        v[static_cast<size_t>(transposed ? j * d + i : i * c + j)] =
            q[static_cast<size_t>(i * c + j)] - (i == j ? 1.0 : 0.0);
  };
}

// F: (N, in) -> (N, out), of x or, with `norm`, of x's RMSNorm; kept for each frame until its backward.
class Branch {
 public:
  Branch(const MethodContext& c, const MethodOptions& o, const std::string& name, int64_t in,
         int64_t out, int64_t hidden, const Initialiser& orthonormal, bool norm)
      : activation_(o.activation), norm_eps_(c.shape.norm_eps) {
    if (norm)
      norm_ = c.parameters.declare(name + ".norm.weight", {in}, ParameterGroup::vector, ones());
    const auto matrix = [&](const std::string& full, int64_t rows, int64_t columns, bool last) {
      Initialiser init = normal(c.seed, full, 0.02);
      if (o.bottleneck_init == "trunc001") init = truncated_normal(c.seed, full, 0.01);
      if (o.bottleneck_init == "zero_out" && last) init = zeros();
      if (o.bottleneck_init == "orth") init = orthonormal;
      return c.parameters.declare(full, {rows, columns}, ParameterGroup::bottleneck,
                                  o.bottleneck_decay, init);
    };
    if (o.form == "mlp") hidden_ = matrix(name + ".hidden.weight", hidden, in, false);
    output_ = matrix(name + ".output.weight", out, o.form == "mlp" ? hidden : in, true);
  }

  // y (N, out) S += F(x), x (N, in) T, which lives as long as the frame.
  void forward(Context& ctx, Frame& frame, Tensor y, Tensor x) {
    if (kept_.size() <= static_cast<size_t>(frame.index))
      kept_.resize(static_cast<size_t>(frame.index) + 1);
    Kept& kept = kept_[static_cast<size_t>(frame.index)];
    kept = take(frame.arena, x);
    apply(ctx, y, kept);
  }
  // The same without keeping anything.
  void look(Context& ctx, Tensor y, Tensor x) {
    ArenaScope scope(ctx.scratch);
    apply(ctx, y, take(ctx.scratch, x));
  }
  // dx (N, in) S += gradient of x; the weights' gradients accumulate. dy (N, out) T.
  void backward(Context& ctx, const Frame& frame, Tensor dx, Tensor dy) {
    ArenaScope scope(ctx.scratch);
    const Kept& kept = kept_.at(static_cast<size_t>(frame.index));
    if (norm_ == nullptr) return backward_inside(ctx, kept, dx, dy, true);
    Tensor dh = ctx.scratch.take(kept.h.shape, kept.h.dtype),
           through = ctx.scratch.take(kept.h.shape, kept.h.dtype);
    backward_inside(ctx, kept, dh, dy, false);
    ctx.ops.rmsnorm_backward(through, norm_->grad, dh, kept.x, norm_->value, kept.rstd, false);
    ctx.ops.axpy(dx, 1.0, through);
  }

 private:
  struct Kept {
    Tensor x, h, rstd, u;  // h = x or its norm; u = h W1^T
  };

  Kept take(Arena& arena, const Tensor& x) const {
    Kept kept{x, x, {}, {}};
    if (norm_ != nullptr) {
      kept.h = arena.take(x.shape, x.dtype);
      kept.rstd = arena.take({x.size(0)}, statistics_of(x.dtype));
    }
    if (hidden_ != nullptr) kept.u = arena.take({x.size(0), hidden_->shape[0]}, x.dtype);
    return kept;
  }

  void apply(Context& ctx, Tensor y, const Kept& kept) {
    ArenaScope scope(ctx.scratch);
    if (norm_ != nullptr)
      ctx.ops.rmsnorm_forward(kept.h, kept.rstd, kept.x, norm_->value, norm_eps_);
    if (hidden_ == nullptr) {
      ctx.ops.matmul(y, kept.h, false, output_->value, true, true);
      return;
    }
    ctx.ops.matmul(kept.u, kept.h, false, hidden_->value, true, false);
    Tensor a = ctx.scratch.take(kept.u.shape, kept.u.dtype);
    ctx.ops.activation_forward(a, kept.u, activation_);
    ctx.ops.matmul(y, a, false, output_->value, true, true);
  }

  // dh (N, in), [+]= the gradient of h.
  void backward_inside(Context& ctx, const Kept& kept, Tensor dh, Tensor dy, bool accumulate) {
    if (hidden_ == nullptr) {
      ctx.ops.matmul(output_->grad, dy, true, kept.h, false, true);
      ctx.ops.matmul(dh, dy, false, output_->value, false, accumulate);
      return;
    }
    Tensor a = ctx.scratch.take(kept.u.shape, kept.u.dtype),
           du = ctx.scratch.take(kept.u.shape, kept.u.dtype);
    ctx.ops.activation_forward(a, kept.u, activation_);
    ctx.ops.matmul(output_->grad, dy, true, a, false, true);
    ctx.ops.matmul(du, dy, false, output_->value, false, false);
    ctx.ops.activation_backward(du, du, kept.u, activation_);
    ctx.ops.matmul(hidden_->grad, du, true, kept.h, false, true);
    ctx.ops.matmul(dh, du, false, hidden_->value, false, accumulate);
  }

  Activation activation_;
  double norm_eps_;
  Parameter *norm_ = nullptr, *hidden_ = nullptr, *output_ = nullptr;
  std::vector<Kept> kept_;
};

// y (N, m) S = the first min(m, n) columns of x (N, n), zeros behind; all zeros without `skip`.
void rectangular_identity(Context& ctx, Tensor y, Tensor x, bool skip) {
  const int64_t common = std::min(y.size(1), x.size(1));
  if (!skip || common < y.size(1)) ctx.ops.fill(y, 0.0);
  if (skip) ctx.ops.cast(y.slice(1, 0, common), x.slice(1, 0, common));
}

struct Sizes {
  int64_t c, m;  // bottleneck, hidden
};

class ResbmCodec final : public Codec {
 public:
  ResbmCodec(const MethodContext& c, const MethodOptions& o, Sizes sizes, int boundary,
             BoundaryEnd end)
      : pool_(c.pool),
        width_(c.shape.width),
        sizes_(sizes),
        wire_(o.wire),
        compute_(c.parameters.dtype()),
        form_(o.form),
        encoder_skips_(o.skip == "both" || o.skip == "encoder"),
        decoder_skips_(o.skip == "both" || o.skip == "decoder") {
    const bool sender = end == BoundaryEnd::sender;
    const int64_t in = sender ? width_ : sizes.c, out = sender ? sizes.c : width_;
    branch_ = std::make_unique<Branch>(
        c, o, fmt::format("boundaries.{}.{}", boundary, sender ? "encoder" : "decoder"), in, out,
        sizes.m, orthonormal_without_identity(c.seed, boundary, width_, sizes.c, sender),
        sender && o.encoder_norm == "rms");
  }

  CodecTraits traits() const override { return {.exact_adjoint = true}; }

  Message encode(Context& ctx, Frame& frame, Tensor x) override {
    return narrow(ctx, x, encoder_skips_, [&](Tensor z) { branch_->forward(ctx, frame, z, x); });
  }
  void decode(Context& ctx, Frame& frame, Tensor x, const Message& m) override {
    Tensor z = frame.arena.take({x.size(0), sizes_.c}, x.dtype);
    ctx.ops.cast(z, m.section(0));
    widen(ctx, x, m.section(0), decoder_skips_,
          [&](Tensor h) { branch_->forward(ctx, frame, h, z); });
  }
  Message encode_grad(Context& ctx, Frame& frame, Tensor dx) override {
    return narrow(ctx, dx, decoder_skips_,
                  [&](Tensor dz) { branch_->backward(ctx, frame, dz, dx); });
  }
  void decode_grad(Context& ctx, Frame& frame, Tensor dx, const Message& m) override {
    ArenaScope scope(ctx.scratch);
    Tensor dz = ctx.scratch.take({dx.size(0), sizes_.c}, dx.dtype);
    ctx.ops.cast(dz, m.section(0));
    widen(ctx, dx, m.section(0), encoder_skips_,
          [&](Tensor g) { branch_->backward(ctx, frame, g, dz); });
  }

  // RMS of the coordinates that the skip keeps, of the others, and of what the encoder learned to add (section 6, item 7).
  Diagnosis diagnose(Context& ctx, Frame&, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    const auto rms_of = [&](int64_t first, int64_t count) {
      if (count == 0) return 0.0;
      Tensor part = ctx.scratch.take({x.size(0), count}, statistics_of(x.dtype));
      ctx.ops.cast(part, x.slice(1, first, count));
      return rms(ctx, part);
    };
    Tensor learned = ctx.scratch.take({x.size(0), sizes_.c}, statistics_of(x.dtype));
    ctx.ops.fill(learned, 0.0);
    branch_->look(ctx, learned, x);
    return {{"identity_rms", rms_of(0, sizes_.c)},
            {"dropped_rms", rms_of(sizes_.c, width_ - sizes_.c)},
            {"learned_rms", rms(ctx, learned)}};
  }
  Diagnosis diagnose_grad(Context& ctx, Frame&, Tensor dx) override {
    return {{"gradient_rms", rms(ctx, dx)}};
  }

  uint64_t handshake(Backend&) const override {
    return hash_name("resbm " + form_,
                     static_cast<uint64_t>(width_) << 40 | static_cast<uint64_t>(sizes_.c) << 16 |
                         static_cast<uint64_t>(compute_) << 8 | static_cast<uint64_t>(wire_));
  }

  std::pair<uint64_t, uint64_t> expected_bytes(int64_t rows) const override {
    const auto bytes = static_cast<uint64_t>(rows * sizes_.c) * size_of(wire_);
    return {bytes, bytes};
  }

 private:
  // The message of T_c(wide) and what `add` adds to it.
  Message narrow(Context& ctx, Tensor wide, bool skip, const std::function<void(Tensor)>& add) {
    ArenaScope scope(ctx.scratch);
    Message m(pool_, ctx.ops, {{wire_, {wide.size(0), sizes_.c}}});
    Tensor z = ctx.scratch.take({wide.size(0), sizes_.c}, statistics_of(wide.dtype));
    rectangular_identity(ctx, z, wide, skip);
    add(z);
    ctx.ops.cast(m.section(0), z);
    m.dense = {wide.bytes()};
    return m;
  }
  // wide = P_d(z) and what `add` adds to it, rounded once.
  void widen(Context& ctx, Tensor wide, Tensor z, bool skip,
             const std::function<void(Tensor)>& add) {
    ArenaScope scope(ctx.scratch);
    const DType s = statistics_of(wide.dtype);
    Tensor sum = wide.dtype == s ? wide : ctx.scratch.take(wide.shape, s);
    rectangular_identity(ctx, sum, z, skip);
    add(sum);
    if (sum.dtype != wide.dtype) ctx.ops.cast(wide, sum);
  }
  static double rms(Context& ctx, const Tensor& x) {
    return std::sqrt(sum_of_squares(ctx, x) / static_cast<double>(x.elements()));
  }

  MessagePool& pool_;
  int64_t width_;
  Sizes sizes_;
  DType wire_, compute_;
  std::string form_;
  bool encoder_skips_, decoder_skips_;
  std::unique_ptr<Branch> branch_;
};

class ResbmMethod final : public Method {
 public:
  ResbmMethod(MethodOptions options, Sizes sizes) : options_(std::move(options)), sizes_(sizes) {}
  std::unique_ptr<Codec> make_codec(const MethodContext& c, int boundary,
                                    BoundaryEnd end) const override {
    return std::make_unique<ResbmCodec>(c, options_, sizes_, boundary, end);
  }
  std::optional<int> rank() const override { return static_cast<int>(sizes_.c); }
  bool adds(const std::string& name) const override { return name.starts_with("boundaries."); }
  std::string boundaries() const override {
    constexpr const char* activations[] = {"silu", "relu", "gelu"};
    const std::string form = options_.form == "mlp"
                                 ? fmt::format("mlp {} {} {}", sizes_.c, sizes_.m,
                                               activations[static_cast<int>(options_.activation)])
                                 : fmt::format("linear {}", sizes_.c);
    return fmt::format("resbm {}, skip {}{}", form, options_.skip,
                       options_.encoder_norm == "rms" ? ", norm" : "");
  }

 private:
  MethodOptions options_;
  Sizes sizes_;
};

void check_word(const char* option, const std::string& found,
                std::initializer_list<const char*> allowed) {
  if (std::find(allowed.begin(), allowed.end(), found) != allowed.end()) return;
  std::string words;
  for (const char* word : allowed) words += (words.empty() ? "" : ", ") + std::string(word);
  throw std::invalid_argument(fmt::format("resbm {} is \"{}\"; allowed: {}", option, found, words));
}

}  // namespace

std::unique_ptr<Method> make_resbm(const MethodOptions& options, const ModelShape& shape,
                                   DType compute) {
  check_word("form", options.form, {"mlp", "linear"});
  check_word("skip", options.skip, {"both", "encoder", "decoder", "none"});
  check_word("enc_norm", options.encoder_norm, {"none", "rms"});
  check_word("init", options.bottleneck_init, {"normal002", "trunc001", "zero_out", "orth"});
  if (options.bottleneck_init == "orth" &&
      (options.form != "linear" || options.skip != "both" || options.encoder_norm != "none"))
    throw std::invalid_argument("resbm init orth needs form linear, skip both and enc_norm none");
  if (options.rank.has_value() == options.ratio.has_value())
    throw std::invalid_argument("compression method \"resbm\" takes exactly one of rank and ratio");
  const int c = options.rank ? *options.rank
                             : projection_rank_for_ratio("resbm", *options.ratio, shape, compute,
                                                         options.wire, false);
  if (c < 1 || c > shape.width)
    throw std::invalid_argument(
        fmt::format("resbm rank {} is outside 1 to the model's width {}", c, shape.width));
  const int m = options.hidden.value_or(std::max(4 * c, 64));
  if (m < 1) throw std::invalid_argument(fmt::format("resbm hidden is {}; it must be positive", m));
  return std::make_unique<ResbmMethod>(options, Sizes{c, m});
}

}  // namespace strait
