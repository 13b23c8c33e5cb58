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

struct Sizes {
  int64_t c, m;  // bottleneck, hidden
};

// One learned part, F(x) = act(h W1^T) W2^T with h = x or its RMSNorm: which of its steps there are.
struct BranchForm {
  int64_t in, hidden, out;  // columns of x, of what W2 reads and of y
  bool norm = false, first = false;
  std::optional<Activation> activation;
  bool second = true;
};

BranchForm form_of(const MethodOptions& o, const Sizes& sizes, int64_t width, BoundaryEnd end) {
  const bool sender = end == BoundaryEnd::sender;
  BranchForm f{sender ? width : sizes.c, 0, sender ? sizes.c : width};
  f.norm = sender && o.encoder_norm == "rms";
  f.hidden = o.form == "mlp" ? sizes.m : f.in;
  if (o.form == "mlp") {
    f.first = true;
    f.activation = o.activation;
  } else if (o.form == "iota_v1") {  // SiLU(g) W4 on the sender, ReLU(z W_dec) on the receiver
    f.first = !sender;
    f.activation = sender ? Activation::silu : Activation::relu;
    f.second = sender;
  }
  return f;
}

// F: (N, in) -> (N, out), kept for each frame until its backward.
class Branch {
 public:
  Branch(const MethodContext& c, const MethodOptions& o, const std::string& name,
         const BranchForm& form, const Initialiser& orthonormal)
      : activation_(form.activation), norm_eps_(c.shape.norm_eps) {
    if (form.norm)
      norm_ =
          c.parameters.declare(name + ".norm.weight", {form.in}, ParameterGroup::vector, ones());
    const auto matrix = [&](const std::string& full, int64_t rows, int64_t columns, bool last) {
      Initialiser init = normal(c.seed, full, 0.02);
      if (o.bottleneck_init == "trunc001") init = truncated_normal(c.seed, full, 0.01);
      if (o.bottleneck_init == "zero_out" && last) init = zeros();
      if (o.bottleneck_init == "orth") init = orthonormal;
      return c.parameters.declare(full, {rows, columns}, ParameterGroup::bottleneck,
                                  o.bottleneck_decay, init);
    };
    if (form.first)
      hidden_ =
          matrix(name + ".hidden.weight", form.second ? form.hidden : form.out, form.in, false);
    if (form.second) output_ = matrix(name + ".output.weight", form.out, form.hidden, true);
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
    Tensor x, h, rstd, u;  // h = x or its norm; u = h W1^T or h
  };

  Kept take(Arena& arena, const Tensor& x) const {
    Kept kept{x, x, {}, {}};
    if (norm_ != nullptr) {
      kept.h = arena.take(x.shape, x.dtype);
      kept.rstd = arena.take({x.size(0)}, statistics_of(x.dtype));
    }
    kept.u = hidden_ == nullptr ? kept.h : arena.take({x.size(0), hidden_->shape[0]}, x.dtype);
    return kept;
  }

  void apply(Context& ctx, Tensor y, const Kept& kept) {
    ArenaScope scope(ctx.scratch);
    if (norm_ != nullptr)
      ctx.ops.rmsnorm_forward(kept.h, kept.rstd, kept.x, norm_->value, norm_eps_);
    if (hidden_ != nullptr) ctx.ops.matmul(kept.u, kept.h, false, hidden_->value, true, false);
    const Tensor a = activated(ctx, kept.u);
    if (output_ == nullptr) return ctx.ops.axpy(y, 1.0, a);
    ctx.ops.matmul(y, a, false, output_->value, true, true);
  }

  // act(u), in scratch, or u itself.
  Tensor activated(Context& ctx, const Tensor& u) const {
    if (!activation_) return u;
    Tensor a = ctx.scratch.take(u.shape, u.dtype);
    ctx.ops.activation_forward(a, u, *activation_);
    return a;
  }

  // dh (N, in), [+]= the gradient of h.
  void backward_inside(Context& ctx, const Kept& kept, Tensor dh, Tensor dy, bool accumulate) {
    if (output_ != nullptr)
      ctx.ops.matmul(output_->grad, dy, true, activated(ctx, kept.u), false, true);
    if (!activation_) {  // linear
      ctx.ops.matmul(dh, dy, false, output_->value, false, accumulate);
      return;
    }
    Tensor du = ctx.scratch.take(kept.u.shape, kept.u.dtype);
    if (output_ != nullptr) ctx.ops.matmul(du, dy, false, output_->value, false, false);
    ctx.ops.activation_backward(du, output_ != nullptr ? du : dy, kept.u, *activation_);
    if (hidden_ == nullptr) return accumulate ? ctx.ops.axpy(dh, 1.0, du) : ctx.ops.cast(dh, du);
    ctx.ops.matmul(hidden_->grad, du, true, kept.h, false, true);
    ctx.ops.matmul(dh, du, false, hidden_->value, false, accumulate);
  }

  std::optional<Activation> activation_;
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

int parts_of(const std::string& form) { return form == "iota_v1" ? 2 : 1; }

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
        parts_(parts_of(o.form)),
        encoder_skips_(o.skip == "both" || o.skip == "encoder"),
        decoder_skips_(o.skip == "both" || o.skip == "decoder") {
    const bool sender = end == BoundaryEnd::sender;
    branch_ = std::make_unique<Branch>(
        c, o, fmt::format("boundaries.{}.{}", boundary, sender ? "encoder" : "decoder"),
        form_of(o, sizes, width_, end),
        orthonormal_without_identity(c.seed, boundary, width_, sizes.c, sender));
  }

  CodecTraits traits() const override { return {.exact_adjoint = true}; }

  Message encode(Context& ctx, Frame& frame, Tensor x) override {
    return narrow(ctx, x, encoder_skips_, 1.0,
                  [&](Tensor z) { branch_->forward(ctx, frame, z, branch_of(x)); });
  }
  void decode(Context& ctx, Frame& frame, Tensor x, const Message& m) override {
    Tensor z = frame.arena.take(m.section(0).shape, x.dtype);
    ctx.ops.cast(z, m.section(0));
    widen(ctx, x, m.section(0), decoder_skips_,
          [&](Tensor h) { branch_->forward(ctx, frame, h, z); });
  }
  Message encode_grad(Context& ctx, Frame& frame, Tensor dx) override {
    return narrow(ctx, dx, decoder_skips_, gradient_factor(frame),
                  [&](Tensor dz) { branch_->backward(ctx, frame, dz, branch_of(dx)); });
  }
  void decode_grad(Context& ctx, Frame& frame, Tensor dx, const Message& m) override {
    ArenaScope scope(ctx.scratch);
    Tensor sent = m.section(0);
    if (const double factor = gradient_factor(frame); factor != 1.0) {
      Tensor larger = ctx.scratch.take(sent.shape, statistics_of(dx.dtype));
      ctx.ops.cast(larger, sent);
      ctx.ops.scale(larger, 1.0 / factor);
      sent = larger;
    }
    Tensor dz = ctx.scratch.take(sent.shape, dx.dtype);
    ctx.ops.cast(dz, sent);
    widen(ctx, dx, sent, encoder_skips_, [&](Tensor g) { branch_->backward(ctx, frame, g, dz); });
  }

  // RMS of the coordinates that the skip keeps, of the others, and of what the encoder learned to add (section 6, item 7).
  Diagnosis diagnose(Context& ctx, Frame&, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    const Tensor stream = stream_of(x);
    const auto rms_of = [&](int64_t first, int64_t count) {
      if (count == 0) return 0.0;
      Tensor part = ctx.scratch.take({stream.size(0), count}, statistics_of(x.dtype));
      ctx.ops.cast(part, stream.slice(1, first, count));
      return rms(ctx, part);
    };
    Tensor learned = ctx.scratch.take({stream.size(0), sizes_.c}, statistics_of(x.dtype));
    ctx.ops.fill(learned, 0.0);
    branch_->look(ctx, learned, branch_of(x));
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
  // Of what the layers beside the boundary have: the residual stream, and what the learned part reads or writes; the same with one part.
  Tensor stream_of(const Tensor& x) const {
    return parts_ == 1 ? x : x.slice(0, 0, x.size(0) / parts_);
  }
  Tensor branch_of(const Tensor& x) const {
    const int64_t n = x.size(0) / parts_;
    return parts_ == 1 ? x : x.slice(0, n, n);
  }
  double gradient_factor(const Frame& frame) const {
    return wire_ == DType::f16 ? fp16_gradient_factor(frame) : 1.0;
  }
  // The message of `factor` times T_c(stream of x) and what `add` adds to it.
  Message narrow(Context& ctx, const Tensor& x, bool skip, double factor,
                 const std::function<void(Tensor)>& add) {
    ArenaScope scope(ctx.scratch);
    const Tensor stream = stream_of(x);
    Message m(pool_, ctx.ops, {{wire_, {stream.size(0), sizes_.c}}});
    Tensor z = ctx.scratch.take(m.section(0).shape, statistics_of(x.dtype));
    rectangular_identity(ctx, z, stream, skip);
    add(z);
    if (factor != 1.0) ctx.ops.scale(z, factor);
    ctx.ops.cast(m.section(0), z);
    m.dense = {stream.bytes()};
    return m;
  }
  // x = P_d(z) and what `add` adds to it; with two parts stream and branch get one each.
  void widen(Context& ctx, const Tensor& x, const Tensor& z, bool skip,
             const std::function<void(Tensor)>& add) {
    if (parts_ == 1) return put(ctx, x, z, skip, add);
    put(ctx, stream_of(x), z, skip, [](Tensor) {});
    put(ctx, branch_of(x), z, false, add);
  }
  // y (N,d) T, summed in S and rounded once.
  static void put(Context& ctx, const Tensor& y, const Tensor& z, bool skip,
                  const std::function<void(Tensor)>& add) {
    ArenaScope scope(ctx.scratch);
    const DType s = statistics_of(y.dtype);
    Tensor sum = y.dtype == s ? y : ctx.scratch.take(y.shape, s);
    rectangular_identity(ctx, sum, z, skip);
    add(sum);
    if (sum.dtype != y.dtype) ctx.ops.cast(y, sum);
  }
  static double rms(Context& ctx, const Tensor& x) {
    return std::sqrt(sum_of_squares(ctx, x) / static_cast<double>(x.elements()));
  }

  MessagePool& pool_;
  int64_t width_;
  Sizes sizes_;
  DType wire_, compute_;
  std::string form_;
  int parts_;
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
  int boundary_parts() const override { return parts_of(options_.form); }
  std::optional<int> rank() const override { return static_cast<int>(sizes_.c); }
  bool adds(const std::string& name) const override { return name.starts_with("boundaries."); }
  std::string boundaries() const override {
    constexpr const char* activations[] = {"silu", "relu", "gelu"};
    const std::string form = options_.form == "mlp"
                                 ? fmt::format("mlp {} {} {}", sizes_.c, sizes_.m,
                                               activations[static_cast<int>(options_.activation)])
                                 : fmt::format("{} {}", options_.form, sizes_.c);
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
  check_word("form", options.form, {"mlp", "linear", "iota_v1"});
  check_word("skip", options.skip, {"both", "encoder", "decoder", "none"});
  check_word("enc_norm", options.encoder_norm, {"none", "rms"});
  check_word("init", options.bottleneck_init, {"normal002", "trunc001", "zero_out", "orth"});
  if (options.bottleneck_init == "orth" &&
      (options.form != "linear" || options.skip != "both" || options.encoder_norm != "none"))
    throw std::invalid_argument("resbm init orth needs form linear, skip both and enc_norm none");
  if (options.form == "iota_v1" &&
      (options.bottleneck_init == "zero_out" || options.encoder_norm != "none"))
    throw std::invalid_argument(
        "resbm form iota_v1 needs enc_norm none and init normal002 or trunc001: a decoder of zeros "
        "behind a ReLU would never learn");
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
