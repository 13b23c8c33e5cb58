#include "engine/codec/mapl.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <stdexcept>
#include <utility>

#include "engine/codec/anchors.h"
#include "engine/codec/projection.h"
#include "engine/codec/residual_vq.h"
#include "engine/manifold/cholesky_qr.h"
#include "engine/manifold/polar.h"

namespace strait {
namespace {

constexpr int32_t kGradientHalf = 0, kProjector = 1;  // purposes of control messages

// What both ends have in common, and the sender's and the receiver's half of it.
class MaplCodec final : public Codec {
 public:
  MaplCodec(const MethodContext& c, const MethodOptions& o, int rank, int boundary, BoundaryEnd end)
      : pool_(c.pool),
        o_(o.mapl),
        wire_(o.wire),
        ids_(id_dtype(c.shape)),
        compute_(c.parameters.dtype()),
        sender_(end == BoundaryEnd::sender),
        d_(c.shape.width),
        r_(rank) {
    const std::string side = sender_ ? "sender" : "receiver",
                      name = fmt::format("boundaries.{}.{}", boundary, side);
    const DType s = statistics_of(compute_);
    const Initialiser orthonormal =
        random_orthonormal(o.basis_seed, fmt::format("boundaries.{}.projector", boundary), d_, r_);
    // A state also where it is frozen: a phase may freeze what was learned.
    a_ = c.parameters.declare_state(name + ".projector", {d_, r_}, s, orthonormal);
    if (sums_gradient())
      gradient_ = c.parameters.declare_sum(name + ".projector_gradient", {d_, r_}, s);
    if (learns() && (sender_ || o_.gradient == "mirror")) {
      momentum_ = c.parameters.declare_state(name + ".momentum", {d_, r_}, s, zeros());
      momentum_->moment = true;
    }
    anchors_ = make_anchors(c, o_.anchors, o.basis_seed, rank, boundary, end);
    if (o_.vq.on)
      forward_vq_ = std::make_unique<ResidualVq>(c, o.batch, o_.vq,
                                                 fmt::format("boundaries.{}.vq.{}", boundary, side),
                                                 r_, wire_, sender_);
    if (o_.vq.on && o_.vq.backward == "rvq")
      backward_vq_ = std::make_unique<ResidualVq>(
          c, o.batch, o_.vq, fmt::format("boundaries.{}.gradient_vq.{}", boundary, side), r_, wire_,
          !sender_);
  }

  CodecTraits traits() const override {
    return {.exact_adjoint = true, .needs_ids = sends_ids(), .local_ids = anchors_ && !sends_ids()};
  }

  Message encode(Context& ctx, Frame& frame, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    Tensor z = ctx.scratch.take({x.size(0), r_}, statistics_of(compute_));
    ctx.ops.matmul(z, centred(ctx, frame, x), false, projector(ctx), false, false);
    Message m = coded(ctx, frame, z, forward_vq_.get(), sends_ids());
    keep(frame) = x;
    m.dense = {x.bytes()};
    return m;
  }

  void decode(Context& ctx, Frame& frame, Tensor x, const Message& m) override {
    check_version(m, version_, "mapl");
    const Layout at = layout(x.size(0), frame, forward_vq_.get(), sends_ids());
    if (sends_ids()) {
      frame.ids = frame.arena.take({x.size(0)}, DType::i32);
      ctx.ops.cast(frame.ids, m.section(at.ids));
    }
    Tensor z = frame.arena.take({x.size(0), r_}, compute_);
    ArenaScope scope(ctx.scratch);
    read(ctx, frame, z, m, at, forward_vq_.get());
    keep(frame) = z;
    const DType s = statistics_of(compute_);
    Tensor sum = compute_ == s ? x : ctx.scratch.take(x.shape, s);
    ctx.ops.matmul(sum, z, false, projector(ctx), true, false);
    if (anchors_) anchors_->add(ctx, sum, frame.ids, 1.0);
    if (compute_ != s) ctx.ops.cast(x, sum);
  }

  Message encode_grad(Context& ctx, Frame& frame, Tensor dx) override {
    ArenaScope scope(ctx.scratch);
    Tensor gz = ctx.scratch.take({dx.size(0), r_}, statistics_of(compute_));
    ctx.ops.matmul(gz, dx, false, projector(ctx), false, false);
    Message m = coded(ctx, frame, gz, backward_vq_.get(), false);
    if (sums_gradient()) ctx.ops.matmul(gradient_->value, dx, true, keep(frame), false, true);
    if (anchors_) anchors_->backward(ctx, dx, frame.ids, 1.0);
    m.dense = {dx.bytes()};
    return m;
  }

  void decode_grad(Context& ctx, Frame& frame, Tensor dx, const Message& m) override {
    check_version(m, version_, "mapl");
    ArenaScope scope(ctx.scratch);
    Tensor gz = ctx.scratch.take({dx.size(0), r_}, compute_);
    read(ctx, frame, gz, m, layout(dx.size(0), frame, backward_vq_.get(), false),
         backward_vq_.get());
    const Tensor a = projector(ctx);
    ctx.ops.matmul(dx, gz, false, a, true, false);
    // Xc^T Gz = X^T Gz - a_p^T Gz: the centred activation need not be kept.
    if (sums_gradient()) ctx.ops.matmul(gradient_->value, keep(frame), true, gz, false, true);
    if (!anchors_) return;
    if (sums_gradient()) anchors_->add_product(ctx, gradient_->value, gz, frame.ids, -1.0);
    anchors_->backward_projected(ctx, gz, a, frame.ids, -1.0);
  }

  void begin_synchronise(Context& ctx, ControlLink& link) override {
    if (sums_gradient()) link.sum_gradient(gradient_->value);
    if (!learns() || o_.gradient == "sender_only") return;
    if (sender_ && o_.gradient == "full") return;
    link.send(kGradientHalf, copy_of(ctx, link, gradient_->value));
  }

  void end_synchronise(Context& ctx, ControlLink& link, const StepEnd& end) override {
    if (!learns()) return;
    if (o_.gradient == "mirror") {
      move(ctx, link, end, true);
    } else if (sender_) {
      move(ctx, link, end, o_.gradient == "full");
      link.send(kProjector, copy_of(ctx, link, a_->value));
    } else {
      const Message m = link.receive(kProjector);
      link.compute([&] { ctx.ops.cast(a_->value, m.section(0)); });
    }
    if (sums_gradient()) link.compute([&] { ctx.ops.fill(gradient_->value, 0.0); });
    version_ = static_cast<uint64_t>(end.step);
  }

  // captured_energy: ||Xc A||^2 / ||Xc||^2; dynamic_rms: of Xc; orthonormality_error: max |A^T A - I|.
  Diagnosis diagnose(Context& ctx, Frame& frame, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    const Tensor xc = centred(ctx, frame, x);
    Tensor z = ctx.scratch.take({x.size(0), r_}, statistics_of(compute_));
    ctx.ops.matmul(z, xc, false, projector(ctx), false, false);
    const double all = sum_of_squares(ctx, xc), captured = sum_of_squares(ctx, z);
    Diagnosis d = {{"dynamic_rms", std::sqrt(all / static_cast<double>(x.elements()))},
                   {"captured_energy", captured / all},
                   {"orthonormality_error", orthonormality_error(ctx, a_->value)}};
    if (forward_vq_ == nullptr) return d;
    Frame look;
    look.training = false;
    Tensor q = ctx.scratch.take(z.shape, z.dtype);
    const auto codes = forward_vq_->code_section(false),
               packed = forward_vq_->index_section(x.size(0));
    forward_vq_->encode(ctx, look, q, z, ctx.scratch.take(codes.shape, codes.dtype),
                        ctx.scratch.take(packed.shape, packed.dtype));
    ctx.ops.axpy(q, -1.0, z);
    d.emplace_back("quantisation_error", std::sqrt(sum_of_squares(ctx, q) / captured));
    for (auto& entry : forward_vq_->diagnose(ctx.ops)) d.push_back(std::move(entry));
    return d;
  }
  Diagnosis diagnose_grad(Context& ctx, Frame&, Tensor dx) override {
    ArenaScope scope(ctx.scratch);
    Tensor gz = ctx.scratch.take({dx.size(0), r_}, statistics_of(compute_));
    ctx.ops.matmul(gz, dx, false, projector(ctx), false, false);
    const double all = sum_of_squares(ctx, dx);
    return {{"gradient_rms", std::sqrt(all / static_cast<double>(dx.elements()))},
            {"captured_gradient", sum_of_squares(ctx, gz) / all}};
  }

  uint64_t handshake(Backend& ops) const override {
    const uint64_t sizes = static_cast<uint64_t>(r_) << 24 | static_cast<uint64_t>(ids_) << 16 |
                           static_cast<uint64_t>(compute_) << 8 | static_cast<uint64_t>(wire_);
    const SpelOptions& spel = o_.spel;
    uint64_t hash =
        hash_tensor(ops, a_->value,
                    hash_name(fmt::format("mapl {} {} {} {} {} {} {} {}", o_.projector, o_.gradient,
                                          sends_ids(), o_.lr_mult, spel.beta, spel.momentum,
                                          spel.transport, spel.retraction),
                              sizes));
    if (learns() && o_.gradient == "mirror") hash = hash_tensor(ops, momentum_->value, hash);
    if (forward_vq_) hash = forward_vq_->hash(ops, hash);
    if (backward_vq_) hash = backward_vq_->hash(ops, hash);
    return hash;
  }

  std::pair<uint64_t, uint64_t> expected_bytes(int64_t rows) const override {
    const auto n = static_cast<uint64_t>(rows),
               latents = n * static_cast<uint64_t>(r_) * size_of(wire_);
    const auto of = [&](const std::unique_ptr<ResidualVq>& vq) {
      if (!vq) return latents;
      const auto [indices, codes] = vq->expected_bytes(rows);
      return indices + codes;
    };
    return {of(forward_vq_) + (sends_ids() ? n * size_of(ids_) : 0), of(backward_vq_)};
  }
  uint64_t expected_sync_bytes(int64_t rows, int64_t microbatches) const override {
    uint64_t codes = 0;
    for (const auto* vq : {forward_vq_.get(), backward_vq_.get()})
      if (vq != nullptr) codes += vq->expected_bytes(rows).second;
    const uint64_t matrices = !learns() ? 0 : o_.gradient == "sender_only" ? 1 : 2;
    return matrices * a_->value.bytes() + codes * static_cast<uint64_t>(microbatches);
  }

 private:
  bool sends_ids() const { return anchors_ && o_.ids == "with_activation"; }
  bool learns() const { return o_.projector != "frozen"; }
  bool sums_gradient() const { return learns() && (sender_ || o_.gradient != "sender_only"); }

  // Moves A by the sum of both halves of its gradient, or by this end's alone. The same sum on both ends under "mirror".
  void move(Context& ctx, ControlLink& link, const StepEnd& end, bool halves) {
    Message other;
    if (halves) other = link.receive(kGradientHalf);
    link.compute([&] {
      if (halves) ctx.ops.axpy(gradient_->value, 1.0, other.section(0));
      step(ctx, end.learning_rate * o_.lr_mult);
    });
  }

  void step(Context& ctx, double alpha) {
    if (o_.projector == "spel")
      return spel_step(ctx, a_->value, momentum_->value, gradient_->value, alpha, o_.spel);
    ctx.ops.scale(momentum_->value, o_.spel.beta);
    ctx.ops.axpy(momentum_->value, 1.0 - o_.spel.beta, gradient_->value);
    if (o_.projector == "sgd_qr") {
      ctx.ops.axpy(a_->value, -alpha, momentum_->value);
      return orthonormalise_columns(ctx, a_->value);
    }
    ArenaScope scope(ctx.scratch);  // free_muon: along the polar factor, off the manifold
    Tensor direction = ctx.scratch.take(a_->shape, a_->dtype);
    polar(ctx, direction, momentum_->value, {.steps = 5});
    ctx.ops.axpy(a_->value, -alpha, direction);
  }

  // Where the parts of a message lie: wider types first, so that all are aligned without padding.
  struct Layout {
    std::vector<Message::Section> sections;
    size_t latents = 0, codes = 0, ids = 0, packed = 0;
  };
  Layout layout(int64_t rows, const Frame& frame, const ResidualVq* vq, bool with_ids) const {
    Layout at;
    std::vector<std::pair<Message::Section, size_t*>> parts;
    if (vq == nullptr) {
      parts.push_back({{wire_, {rows, r_}}, &at.latents});
    } else {
      parts.push_back({vq->code_section(vq->is_first(frame)), &at.codes});
      parts.push_back({vq->index_section(rows), &at.packed});
    }
    if (with_ids) parts.push_back({{ids_, {rows}}, &at.ids});
    std::stable_sort(parts.begin(), parts.end(), [](const auto& a, const auto& b) {
      return size_of(a.first.dtype) > size_of(b.first.dtype);
    });
    for (const auto& [section, place] : parts) {
      *place = at.sections.size();
      at.sections.push_back(section);
    }
    return at;
  }

  // The message of latents or their gradients z (N,r) S.
  Message coded(Context& ctx, const Frame& frame, Tensor z, ResidualVq* vq, bool with_ids) {
    const Layout at = layout(z.size(0), frame, vq, with_ids);
    Message m(pool_, ctx.ops, at.sections);
    if (with_ids) ctx.ops.cast(m.section(at.ids), frame.ids);
    if (vq == nullptr) {
      ctx.ops.cast(m.section(at.latents), z);
    } else {
      Tensor q = ctx.scratch.take(z.shape, z.dtype);
      vq->encode(ctx, frame, q, z, m.section(at.codes), m.section(at.packed));
      m.sync = {m.section(at.codes).bytes()};
    }
    m.version = version_;
    return m;
  }
  // z (N,r) T from the message alone.
  void read(Context& ctx, const Frame& frame, Tensor z, const Message& m, const Layout& at,
            ResidualVq* vq) {
    if (vq == nullptr) return ctx.ops.cast(z, m.section(at.latents));
    Tensor q = ctx.scratch.take(z.shape, statistics_of(compute_));
    vq->decode(ctx, frame, q, m.section(at.codes), m.section(at.packed));
    ctx.ops.cast(z, q);
  }

  Message copy_of(Context& ctx, ControlLink& link, Tensor t) {
    Message m(pool_, ctx.ops, {{t.dtype, t.shape}});
    link.compute([&] { ctx.ops.cast(m.section(0), t); });
    m.sync = m.bytes();
    return m;
  }

  // A in the compute type: the same bits on both ends.
  Tensor projector(Context& ctx) { return in_dtype(ctx, a_->value, compute_); }

  // x - a_p[ids] in T, subtracted in S: the two are close (section 7, item 11).
  Tensor centred(Context& ctx, const Frame& frame, Tensor x) {
    if (!anchors_) return x;
    Tensor wide = ctx.scratch.take(x.shape, statistics_of(compute_));
    ctx.ops.cast(wide, x);
    anchors_->add(ctx, wide, frame.ids, -1.0);
    return in_dtype(ctx, wide, compute_);
  }

  Tensor& keep(const Frame& frame) {
    if (kept_.size() <= static_cast<size_t>(frame.index))
      kept_.resize(static_cast<size_t>(frame.index) + 1);
    return kept_[static_cast<size_t>(frame.index)];
  }

  MessagePool& pool_;
  MaplOptions o_;
  DType wire_, ids_, compute_;
  bool sender_;
  int64_t d_, r_;
  Buffer *a_ = nullptr, *gradient_ = nullptr, *momentum_ = nullptr;
  std::unique_ptr<Anchors> anchors_;
  std::unique_ptr<ResidualVq> forward_vq_, backward_vq_;
  std::vector<Tensor> kept_;  // by frame: x on the sender, Z on the receiver
  uint64_t version_ = 0;      // the step after which A was last moved
};

class MaplMethod final : public Method {
 public:
  MaplMethod(MethodOptions options, int rank) : o_(std::move(options)), rank_(rank) {}
  std::unique_ptr<Codec> make_codec(const MethodContext& c, int boundary,
                                    BoundaryEnd end) const override {
    return std::make_unique<MaplCodec>(c, o_, rank_, boundary, end);
  }
  std::optional<int> rank() const override { return rank_; }
  // The first message brings whole codebooks.
  int64_t steady_step() const override { return o_.mapl.vq.on ? 2 : 1; }
  bool adds(const std::string& name) const override {
    return name.starts_with("boundaries.") || name.starts_with("anchors.");
  }
  std::string boundaries() const override {
    const AnchorOptions& a = o_.mapl.anchors;
    std::string text = fmt::format("mapl {}, anchors {} {} {}, seed {}", rank_, a.kind,
                                   a.rank.value_or(rank_), a.tables, o_.basis_seed);
    // Both ends must go on with the same momentum, which only one of them has otherwise.
    if (o_.mapl.gradient == "mirror") text += ", mirror";
    return text;
  }

 private:
  MethodOptions o_;
  int rank_;
};

void check_word(const char* option, const std::string& found,
                std::initializer_list<const char*> allowed) {
  if (std::find(allowed.begin(), allowed.end(), found) != allowed.end()) return;
  throw std::invalid_argument(
      fmt::format("mapl {} is \"{}\"; allowed: {}", option, found, fmt::join(allowed, ", ")));
}

// The rank whose bytes of a step, synchronisation included, come closest to the ratio.
int mapl_rank(const MethodOptions& o, const ModelShape& shape, DType compute) {
  const bool ids = o.mapl.anchors.kind != "none" && o.mapl.ids == "with_activation";
  const double d = shape.width, w0 = static_cast<double>(size_of(compute)),
               w = static_cast<double>(size_of(o.wire)),
               tokens =
                   static_cast<double>(std::max(o.batch.rows * o.batch.microbatches, int64_t{1})),
               id = ids ? static_cast<double>(size_of(id_dtype(shape))) : 0,
               matrices = o.mapl.projector == "frozen"       ? 0
                          : o.mapl.gradient == "sender_only" ? 1
                                                             : 2,
               matrix = matrices * d * static_cast<double>(size_of(statistics_of(compute)));
  return rank_for_ratio("mapl", *o.ratio, shape.width, [&](int r) {
    return 2 * d * w0 * tokens / (tokens * (2 * r * w + id) + matrix * r);
  });
}

}  // namespace

std::unique_ptr<Method> make_mapl(const MethodOptions& options, const ModelShape& shape,
                                  DType compute) {
  const MaplOptions& o = options.mapl;
  check_word("projector", o.projector, {"spel", "frozen", "sgd_qr", "free_muon"});
  check_word("gradient", o.gradient, {"full", "sender_only", "mirror"});
  check_word("ids", o.ids, {"with_activation", "local"});
  check_word("spel momentum", o.spel.momentum,
             {"tangent_accumulate", "euclid_then_project", "euclid_plain"});
  check_word("retraction", o.spel.retraction, {"ns_quintic", "polar_express", "qr"});
  check_word("anchors", o.anchors.kind, {"factorised", "none", "static", "full"});
  check_word("anchor init", o.anchors.init, {"normal002", "zero", "token_embedding"});
  check_word("anchor tables", o.anchors.tables, {"per_stage", "per_boundary_side"});
  check_word("vq backward", o.vq.backward, {"none", "rvq"});
  if (options.rank.has_value() == options.ratio.has_value())
    throw std::invalid_argument("compression method \"mapl\" takes exactly one of rank and ratio");
  if (options.ratio && o.vq.on)
    throw std::invalid_argument(
        "mapl with vq takes a rank: its groups, codes and rounds set the ratio");
  const int rank = options.rank ? *options.rank : mapl_rank(options, shape, compute);
  if (rank < 1 || rank > shape.width)
    throw std::invalid_argument(
        fmt::format("mapl rank {} is outside 1 to the model's width {}", rank, shape.width));
  return std::make_unique<MaplMethod>(options, rank);
}

}  // namespace strait
