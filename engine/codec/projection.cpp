#include "engine/codec/projection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <utility>
#include <vector>

#include "engine/manifold/orthonormal.h"

namespace strait {
namespace {

class ProjectionCodec final : public Codec {
 public:
  ProjectionCodec(const MethodContext& c, std::string identity, DType wire, Buffer* basis,
                  Buffer* anchors, std::unique_ptr<BasisMotion> motion, bool constrains_model)
      : pool_(c.pool),
        identity_(std::move(identity)),
        wire_(wire),
        rank_(basis->shape[1]),
        ids_(id_dtype(c.shape)),
        compute_(c.parameters.dtype()),
        u_(basis),
        anchors_(anchors),
        motion_(std::move(motion)),
        constrains_model_(constrains_model) {}

  CodecTraits traits() const override {
    return {.exact_adjoint = true,
            .needs_ids = anchors_ != nullptr,
            .constrains_model = constrains_model_};
  }

  Message encode(Context& ctx, Frame& frame, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    Message m(pool_, ctx.ops, sections(x.size(0)));
    ctx.ops.cast(coefficients(m),
                 coordinates(ctx, dynamic_part(ctx, frame, x), u_->value, u_->dtype));
    if (anchors_ != nullptr) ctx.ops.cast(ids(m), frame.ids);
    m.dense = {x.bytes()};
    m.version = version(ctx.ops);
    return m;
  }

  void decode(Context& ctx, Frame& frame, Tensor x, const Message& m) override {
    ArenaScope scope(ctx.scratch);
    check_version(m, version(ctx.ops), identity_.c_str());
    if (anchors_ == nullptr) return expand(ctx, x, coefficients(m), u_->value);
    frame.ids = frame.arena.take({x.size(0)}, DType::i32);
    ctx.ops.cast(frame.ids, ids(m));
    Tensor dynamic = ctx.scratch.take(x.shape, u_->dtype);
    expand(ctx, dynamic, coefficients(m), u_->value);
    ctx.ops.add_gathered_rows(x, dynamic, anchors_->value, frame.ids, 1.0);
  }

  Message encode_grad(Context& ctx, Frame&, Tensor dx) override {
    ArenaScope scope(ctx.scratch);
    Message m(pool_, ctx.ops, {{wire_, {dx.size(0), rank_}}});
    const Tensor wide = in_dtype(ctx, dx, u_->dtype),
                 gamma = coordinates(ctx, wide, u_->value, u_->dtype);
    ctx.ops.cast(m.section(0), gamma);
    if (motion_) motion_->observe(ctx, wide, gamma);
    m.dense = {dx.bytes()};
    m.version = version(ctx.ops);
    return m;
  }

  void decode_grad(Context& ctx, Frame&, Tensor dx, const Message& m) override {
    ArenaScope scope(ctx.scratch);
    check_version(m, version(ctx.ops), identity_.c_str());
    expand(ctx, dx, m.section(0), u_->value);
  }

  void begin_synchronise(Context& ctx, ControlLink&) override {
    if (motion_) motion_->begin_synchronise(ctx);
  }
  void end_synchronise(Context& ctx, ControlLink& link, const StepEnd& end) override {
    if (motion_) motion_->end_synchronise(ctx, link, end);
  }

  // dynamic_rms: of x - tau; outside_subspace: ||(x - tau) Q|| / ||x - tau||, what the receiver does not get: rounding where the model
  // is held to the subspace. basis_error: max |U^T U - I|; basis_version: how often the basis has moved.
  Diagnosis diagnose(Context& ctx, Frame& frame, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    const Tensor dynamic = dynamic_part(ctx, frame, x);
    Tensor inside = ctx.scratch.take(x.shape, u_->dtype);
    expand(ctx, inside, coordinates(ctx, dynamic, u_->value, u_->dtype), u_->value);
    ctx.ops.axpy(inside, -1.0, dynamic);
    const double all = sum_of_squares(ctx, dynamic);
    return {{"dynamic_rms", std::sqrt(all / static_cast<double>(x.elements()))},
            {"outside_subspace", std::sqrt(sum_of_squares(ctx, inside) / all)},
            {"basis_error", orthonormality_error(ctx, u_->value)},
            {"basis_version", static_cast<double>(version(ctx.ops))}};
  }
  // captured_gradient: ||g U||^2 / ||g||^2 of this microbatch, the share of the gradient's energy that is sent. Before the full-rank last stage about
  // k/d at random U (section 3.2); at earlier boundaries near 1, because the residual path brings a gradient that was projected once already.
  Diagnosis diagnose_grad(Context& ctx, Frame&, Tensor dx) override {
    ArenaScope scope(ctx.scratch);
    const double sent = sum_of_squares(ctx, coordinates(ctx, dx, u_->value, u_->dtype)),
                 all = sum_of_squares(ctx, dx);
    Diagnosis result = {{"gradient_rms", std::sqrt(all / static_cast<double>(dx.elements()))},
                        {"captured_gradient", sent / all}};
    if (motion_) {
      for (const auto& entry : motion_->diagnose_grad(ctx)) result.push_back(entry);
    }
    return result;
  }

  uint64_t handshake(Backend& ops) const override {
    const uint64_t sizes = static_cast<uint64_t>(rank_) << 24 | static_cast<uint64_t>(ids_) << 16 |
                           static_cast<uint64_t>(compute_) << 8 | static_cast<uint64_t>(wire_);
    const uint64_t basis = hash_tensor(
        ops, u_->value, hash_name(fmt::format("{} {}", identity_, version(ops)), sizes));
    return anchors_ == nullptr ? basis : hash_tensor(ops, anchors_->value, basis);
  }

  std::pair<uint64_t, uint64_t> expected_bytes(int64_t rows) const override {
    const auto n = static_cast<uint64_t>(rows), k = static_cast<uint64_t>(rank_);
    const uint64_t id = anchors_ == nullptr ? 0 : size_of(ids_);
    return {n * (k * size_of(wire_) + id), n * k * size_of(wire_)};
  }
  uint64_t expected_sync_bytes(int64_t, int64_t) const override {
    return motion_ ? motion_->expected_sync_bytes() : 0;
  }

 private:
  // x - tau[ids], in S.
  Tensor dynamic_part(Context& ctx, const Frame& frame, const Tensor& x) {
    if (anchors_ == nullptr) return in_dtype(ctx, x, u_->dtype);
    Tensor dynamic = ctx.scratch.take(x.shape, u_->dtype);
    ctx.ops.add_gathered_rows(dynamic, x, anchors_->value, frame.ids, -1.0);
    return dynamic;
  }
  uint64_t version(Backend& ops) const { return motion_ ? motion_->version(ops) : 0; }
  // The wider section lies first, so that both are aligned without padding.
  bool ids_first() const { return anchors_ != nullptr && size_of(ids_) > size_of(wire_); }
  std::vector<Message::Section> sections(int64_t rows) const {
    std::vector<Message::Section> s = {{wire_, {rows, rank_}}};
    if (anchors_ != nullptr) s.insert(ids_first() ? s.begin() : s.end(), {ids_, {rows}});
    return s;
  }
  Tensor coefficients(const Message& m) const { return m.section(ids_first() ? 1 : 0); }
  Tensor ids(const Message& m) const { return m.section(ids_first() ? 0 : 1); }

  MessagePool& pool_;
  std::string identity_;
  DType wire_;
  int64_t rank_;
  DType ids_, compute_;
  Buffer *u_, *anchors_;
  std::unique_ptr<BasisMotion> motion_;
  bool constrains_model_;
};

}  // namespace

DType id_dtype(const ModelShape& shape) {
  return shape.vocabulary <= 65536 ? DType::u16 : DType::i32;
}

Tensor in_dtype(Context& ctx, const Tensor& x, DType dtype) {
  if (x.dtype == dtype) return x;
  Tensor y = ctx.scratch.take(x.shape, dtype);
  ctx.ops.cast(y, x);
  return y;
}

double orthonormality_error(Context& ctx, const Tensor& a) {
  ArenaScope scope(ctx.scratch);
  Tensor gram = ctx.scratch.take({a.size(1), a.size(1)}, a.dtype);
  ctx.ops.matmul(gram, a, true, a, false, false);
  const std::vector<double> g = host_values(ctx.ops, gram);  // empty on the meta backend
  double worst = 0;
  for (size_t i = 0; i < g.size(); ++i) {
    const double expected = i % static_cast<size_t>(a.size(1) + 1) == 0 ? 1.0 : 0.0;
    worst = std::max(worst, std::abs(g[i] - expected));
  }
  return worst;
}

Tensor coordinates(Context& ctx, const Tensor& x, const Tensor& u, DType out) {
  Tensor c = ctx.scratch.take({x.size(0), u.size(1)}, u.dtype);
  ctx.ops.matmul(c, in_dtype(ctx, x, u.dtype), false, u, false, false);
  return in_dtype(ctx, c, out);
}

void expand(Context& ctx, const Tensor& y, const Tensor& c, const Tensor& u) {
  const Tensor cs = in_dtype(ctx, c, u.dtype);
  if (y.dtype == u.dtype) {
    ctx.ops.matmul(y, cs, false, u, true, false);
    return;
  }
  Tensor wide = ctx.scratch.take(y.shape, u.dtype);
  ctx.ops.matmul(wide, cs, false, u, true, false);
  ctx.ops.cast(y, wide);
}

Initialiser random_orthonormal(uint64_t seed, std::string name, int64_t d, int64_t k) {
  return [seed, name = std::move(name), d, k](std::vector<double>& u) {
    normal(seed, name, 1.0)(u);
    orthonormalise(u, d, k);
  };
}

Buffer* declare_basis(ParameterList& parameters, const ModelShape& shape, int rank, uint64_t seed,
                      const std::string& name, bool moves) {
  const Shape dk{shape.width, rank};
  const DType s = statistics_of(parameters.dtype());
  const Initialiser init = random_orthonormal(seed, name, shape.width, rank);
  return moves ? parameters.declare_state(name, dk, s, init)
               : parameters.declare_constant(name, dk, s, init);
}

Buffer* declare_token_table(ParameterList& parameters, const ModelShape& shape, uint64_t seed,
                            const std::string& name) {
  return parameters.declare_constant(name, {shape.vocabulary, shape.width}, parameters.dtype(),
                                     normal(seed, name, 1.0));
}

int rank_for_ratio(const char* method, double ratio, int width,
                   const std::function<double(int rank)>& achieved) {
  const auto distance = [&](int rank) { return std::abs(std::log(achieved(rank) / ratio)); };
  int low = 1, high = width;  // the lowest rank whose ratio is not above the wanted one
  while (low < high) {
    const int middle = (low + high) / 2;
    if (achieved(middle) > ratio)
      low = middle + 1;
    else
      high = middle;
  }
  const int best = low > 1 && distance(low - 1) <= distance(low) ? low - 1 : low;
  if (!(ratio > 0) || distance(best) > std::log(2.0)) {
    throw std::invalid_argument(
        fmt::format("compression ratio {} cannot be reached by {} at width {}: ranks 1 to {} "
                    "give {:.4g} to {:.4g}",
                    ratio, method, width, width, achieved(1), achieved(width)));
  }
  return best;
}

int projection_rank_for_ratio(const char* method, double ratio, const ModelShape& shape,
                              DType compute, DType wire, bool ids) {
  const double d = shape.width, w0 = static_cast<double>(size_of(compute)),
               w = static_cast<double>(size_of(wire));
  const double i = ids ? static_cast<double>(size_of(id_dtype(shape))) : 0.0;
  return rank_for_ratio(method, ratio, shape.width,
                        [&](int k) { return 2 * d * w0 / (2 * k * w + i); });
}

int projection_rank(const char* method, const MethodOptions& options, const ModelShape& shape,
                    DType compute, bool ids) {
  if (options.rank.has_value() == options.ratio.has_value())
    throw std::invalid_argument(
        fmt::format("compression method \"{}\" takes exactly one of rank and ratio", method));
  const int rank = options.rank ? *options.rank
                                : projection_rank_for_ratio(method, *options.ratio, shape, compute,
                                                            options.wire, ids);
  if (rank < 1 || rank > shape.width)
    throw std::invalid_argument(
        fmt::format("{} rank {} is outside 1 to the model's width {}", method, rank, shape.width));
  return rank;
}

std::unique_ptr<Codec> make_projection_codec(const MethodContext& c, std::string identity,
                                             DType wire, Buffer* basis, Buffer* anchors,
                                             std::unique_ptr<BasisMotion> motion,
                                             bool constrains_model) {
  return std::make_unique<ProjectionCodec>(c, std::move(identity), wire, basis, anchors,
                                           std::move(motion), constrains_model);
}

}  // namespace strait
