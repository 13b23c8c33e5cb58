#include "engine/codec/subspace.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "engine/codec/subspace_fold.h"
#include "engine/manifold/orthonormal.h"

namespace strait {
namespace {

DType id_dtype(const ModelShape& shape) {
  return shape.vocabulary <= 65536 ? DType::u16 : DType::i32;
}

// `x` in type `dtype`: x itself where it has it, else a rounded copy in scratch.
Tensor in_dtype(Context& ctx, const Tensor& x, DType dtype) {
  if (x.dtype == dtype) return x;
  Tensor y = ctx.scratch.take(x.shape, dtype);
  ctx.ops.cast(y, x);
  return y;
}

// c (N,k) `out` = x (N,d) U, computed in S.
Tensor coordinates(Context& ctx, const Tensor& x, const Tensor& u, DType out) {
  Tensor c = ctx.scratch.take({x.size(0), u.size(1)}, u.dtype);
  ctx.ops.matmul(c, in_dtype(ctx, x, u.dtype), false, u, false, false);
  return in_dtype(ctx, c, out);
}

// y (N,d) = c (N,k) U^T, computed in S, rounded once to y's type.
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

class SubspaceEmbedding final : public Embedding {
 public:
  SubspaceEmbedding(const MethodContext& c, const MethodOptions& o, int rank)
      : u_(declare_basis(c.parameters, c.shape, rank, o.basis_seed)),
        fixed_(declare_token_table(c.parameters, c.shape, o.basis_seed)) {
    const std::string name = "model.embed_tokens.coordinates";
    Initialiser init = normal(c.seed, name, o.embedding_init == "small" ? 0.02 : 1.0);
    if (o.embedding_init == "projected") init = projected(c.shape, rank, c.parameters.dtype());
    e_ = c.parameters.declare(name, {c.shape.vocabulary, rank}, true, init);
  }

  void forward(Context& ctx, Frame& frame, Tensor y) override {
    ArenaScope scope(ctx.scratch);
    Tensor e = ctx.scratch.take({frame.rows(), e_->shape[1]}, e_->value.dtype);
    ctx.ops.gather_rows(e, e_->value, frame.ids);
    Tensor dynamic = ctx.scratch.take(y.shape, u_->dtype);
    expand(ctx, dynamic, e, u_->value);
    ctx.ops.add_gathered_rows(y, dynamic, fixed_->value, frame.ids, 1.0);
  }

  void backward(Context& ctx, Frame& frame, Tensor dy) override {
    ArenaScope scope(ctx.scratch);
    ctx.ops.scatter_add_rows(e_->grad, coordinates(ctx, dy, u_->value, dy.dtype), frame.ids);
  }

 private:
  // E0 = T_fixed U (section 2.2). The constants may not be filled in yet, so both come from their initialisers again.
  Initialiser projected(const ModelShape& shape, int rank, DType compute) const {
    return [this, d = int64_t{shape.width}, k = int64_t{rank}, compute](std::vector<double>& e) {
      std::vector<double> u(static_cast<size_t>(d * k)),
          table(e.size() / static_cast<size_t>(k) * static_cast<size_t>(d));
      u_->init(u);
      fixed_->init(table);
      const int64_t v = static_cast<int64_t>(e.size()) / k;
      for (int64_t t = 0; t < v; ++t) {
        double* row = e.data() + t * k;
        for (int64_t c = 0; c < d; ++c) {
          const auto f = static_cast<float>(table[static_cast<size_t>(t * d + c)]);
          const double x = compute == DType::bf16
                               ? static_cast<double>(static_cast<float>(bfloat16(f)))
                           : compute == DType::f32 ? static_cast<double>(f)
                                                   : table[static_cast<size_t>(t * d + c)];
          for (int64_t j = 0; j < k; ++j) row[j] += x * u[static_cast<size_t>(c * k + j)];
        }
      }
    };
  }

  Constant *u_, *fixed_;
  Parameter* e_ = nullptr;
};

class SubspaceProjection final : public Projection {
 public:
  SubspaceProjection(const MethodContext& c, const MethodOptions& o, int rank,
                     const std::string& name, int layer, int in)
      : u_(declare_basis(c.parameters, c.shape, rank, o.basis_seed)) {
    const std::string full = name + ".coordinates";
    Initialiser init =
        o.z_init == "zero" ? zeros() : normal(c.seed, full, 0.02 / std::sqrt(2.0 * (layer + 1)));
    z_ = c.parameters.declare(full, {in, rank}, true, init);
  }

  void forward(Context& ctx, Tensor y, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    Tensor c = ctx.scratch.take({x.size(0), z_->shape[1]}, u_->dtype);
    ctx.ops.matmul(c, x, false, z_->value, false, false);
    expand(ctx, y, c, u_->value);
  }
  Tensor backward_input(Context& ctx, Tensor dx, Tensor dy) override {
    Tensor dc = coordinates(ctx, dy, u_->value, dy.dtype);
    ctx.ops.matmul(dx, dc, false, z_->value, true, false);
    return dc;
  }
  void backward_weight(Context& ctx, Tensor x, Tensor dy_part) override {
    ctx.ops.matmul(z_->grad, x, true, dy_part, false, true);
  }

 private:
  Constant* u_;
  Parameter* z_;
};

class SubspaceCodec final : public Codec {
 public:
  SubspaceCodec(const MethodContext& c, const MethodOptions& o, int rank)
      : pool_(c.pool),
        wire_(o.wire),
        rank_(rank),
        ids_(id_dtype(c.shape)),
        compute_(c.parameters.dtype()),
        u_(declare_basis(c.parameters, c.shape, rank, o.basis_seed)),
        fixed_(declare_token_table(c.parameters, c.shape, o.basis_seed)) {}

  CodecTraits traits() const override {
    return {.exact_adjoint = true, .needs_ids = true, .constrains_model = true};
  }

  Message encode(Context& ctx, Frame& frame, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    Message m = ids_ == DType::i32 && size_of(wire_) < 4
                    ? Message(pool_, ctx.ops, {{ids_, {x.size(0)}}, {wire_, {x.size(0), rank_}}})
                    : Message(pool_, ctx.ops, {{wire_, {x.size(0), rank_}}, {ids_, {x.size(0)}}});
    Tensor dynamic = ctx.scratch.take(x.shape, u_->dtype);
    ctx.ops.add_gathered_rows(dynamic, x, fixed_->value, frame.ids, -1.0);
    ctx.ops.cast(coefficients(m), coordinates(ctx, dynamic, u_->value, u_->dtype));
    ctx.ops.cast(ids(m), frame.ids);
    m.dense = {x.bytes()};
    return m;
  }

  void decode(Context& ctx, Frame& frame, Tensor x, const Message& m) override {
    ArenaScope scope(ctx.scratch);
    frame.ids = frame.arena.take({x.size(0)}, DType::i32);
    ctx.ops.cast(frame.ids, ids(m));
    Tensor dynamic = ctx.scratch.take(x.shape, u_->dtype);
    expand(ctx, dynamic, coefficients(m), u_->value);
    ctx.ops.add_gathered_rows(x, dynamic, fixed_->value, frame.ids, 1.0);
  }

  Message encode_grad(Context& ctx, Frame&, Tensor dx) override {
    ArenaScope scope(ctx.scratch);
    Message m(pool_, ctx.ops, {{wire_, {dx.size(0), rank_}}});
    ctx.ops.cast(m.section(0), coordinates(ctx, dx, u_->value, u_->dtype));
    m.dense = {dx.bytes()};
    return m;
  }

  void decode_grad(Context& ctx, Frame&, Tensor dx, const Message& m) override {
    ArenaScope scope(ctx.scratch);
    expand(ctx, dx, m.section(0), u_->value);
  }

  // dynamic_rms: of x - T_fixed; outside_subspace: ||(x - T_fixed) Q|| / ||x - T_fixed||, rounding unless the constraint leaks.
  Diagnosis diagnose(Context& ctx, Frame& frame, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    Tensor dynamic = ctx.scratch.take(x.shape, u_->dtype),
           inside = ctx.scratch.take(x.shape, u_->dtype);
    ctx.ops.add_gathered_rows(dynamic, x, fixed_->value, frame.ids, -1.0);
    expand(ctx, inside, coordinates(ctx, dynamic, u_->value, u_->dtype), u_->value);
    ctx.ops.axpy(inside, -1.0, dynamic);
    const double all = sum_of_squares(ctx, dynamic);
    return {{"dynamic_rms", std::sqrt(all / static_cast<double>(x.elements()))},
            {"outside_subspace", std::sqrt(sum_of_squares(ctx, inside) / all)}};
  }
  // captured_gradient: ||g U||^2 / ||g||^2, the share of the gradient's energy that is sent. Before the full-rank last stage about
  // k/d at random U (section 3.2); at earlier boundaries near 1, because the residual path brings a gradient that was projected once already.
  Diagnosis diagnose_grad(Context& ctx, Frame&, Tensor dx) override {
    ArenaScope scope(ctx.scratch);
    const double sent = sum_of_squares(ctx, coordinates(ctx, dx, u_->value, u_->dtype)),
                 all = sum_of_squares(ctx, dx);
    return {{"gradient_rms", std::sqrt(all / static_cast<double>(dx.elements()))},
            {"captured_gradient", sent / all}};
  }

  uint64_t handshake(Backend& ops) const override {
    const uint64_t sizes = static_cast<uint64_t>(rank_) << 24 | static_cast<uint64_t>(ids_) << 16 |
                           static_cast<uint64_t>(compute_) << 8 | static_cast<uint64_t>(wire_);
    return hash_tensor(ops, fixed_->value,
                       hash_tensor(ops, u_->value, hash_name("subspace C, U version 0", sizes)));
  }

  std::pair<uint64_t, uint64_t> expected_bytes(int64_t rows) const override {
    const auto n = static_cast<uint64_t>(rows), k = static_cast<uint64_t>(rank_);
    return {n * (k * size_of(wire_) + size_of(ids_)), n * k * size_of(wire_)};
  }

 private:
  // The wider section lies first, so that both are aligned without padding.
  bool ids_first() const { return size_of(ids_) > size_of(wire_); }
  Tensor coefficients(const Message& m) const { return m.section(ids_first() ? 1 : 0); }
  Tensor ids(const Message& m) const { return m.section(ids_first() ? 0 : 1); }

  MessagePool& pool_;
  DType wire_;
  int64_t rank_;
  DType ids_, compute_;
  Constant *u_, *fixed_;
};

class SubspaceMethod final : public Method {
 public:
  SubspaceMethod(MethodOptions options, int rank, const ModelShape& shape, DType compute)
      : options_(std::move(options)),
        rank_(rank),
        compute_(compute),
        fold_(shape, rank, options_.basis_seed, compute) {}
  std::unique_ptr<Codec> make_codec(const MethodContext& c, int, BoundaryEnd) const override {
    return std::make_unique<SubspaceCodec>(c, options_, rank_);
  }
  std::unique_ptr<Embedding> make_embedding(const MethodContext& c) const override {
    return std::make_unique<SubspaceEmbedding>(c, options_, rank_);
  }
  std::unique_ptr<Projection> make_projection(const MethodContext& c, const std::string& name,
                                              int layer, int in, bool crosses) const override {
    if (!crosses) return Method::make_projection(c, name, layer, in, crosses);
    return std::make_unique<SubspaceProjection>(c, options_, rank_, name, layer, in);
  }
  std::optional<int> rank() const override { return rank_; }
  ModelConstraint constraint() const override {
    return {"subspace", rank_, options_.basis_seed, compute_};
  }
  std::optional<ParameterState> to_plain(const std::string& name,
                                         const ParameterSource& own) const override {
    return fold_.to_plain(name, own);
  }
  std::optional<ParameterState> from_plain(const std::string& name,
                                           const ParameterSource& plain) const override {
    return fold_.from_plain(name, plain);
  }

 private:
  MethodOptions options_;
  int rank_;
  DType compute_;
  SubspaceFold fold_;
};

}  // namespace

Constant* declare_basis(ParameterList& parameters, const ModelShape& shape, int rank,
                        uint64_t seed) {
  auto init = [seed, d = int64_t{shape.width}, k = int64_t{rank}](std::vector<double>& u) {
    normal(seed, "subspace.U", 1.0)(u);
    orthonormalise(u, d, k);
  };
  return parameters.declare_constant("subspace.U", {shape.width, rank},
                                     statistics_of(parameters.dtype()), init);
}

Constant* declare_token_table(ParameterList& parameters, const ModelShape& shape, uint64_t seed) {
  return parameters.declare_constant("subspace.T_fixed", {shape.vocabulary, shape.width},
                                     parameters.dtype(), normal(seed, "subspace.T_fixed", 1.0));
}

int subspace_rank_for_ratio(double ratio, const ModelShape& shape, DType compute, DType wire) {
  const double d = shape.width, w0 = static_cast<double>(size_of(compute)),
               w = static_cast<double>(size_of(wire));
  const auto i = static_cast<double>(size_of(id_dtype(shape)));
  auto achieved = [&](int k) { return 2 * d * w0 / (2 * k * w + i); };
  const double exact = (2 * d * w0 / ratio - i) / (2 * w);
  const int low = std::clamp(static_cast<int>(std::floor(exact)), 1, shape.width);
  const int high = std::min(low + 1, shape.width);
  const int best =
      std::abs(std::log(achieved(low) / ratio)) <= std::abs(std::log(achieved(high) / ratio))
          ? low
          : high;
  if (!(ratio > 0) || std::abs(std::log(achieved(best) / ratio)) > std::log(2.0)) {
    throw std::invalid_argument(
        fmt::format("compression ratio {} cannot be reached by subspace at width {}: ranks 1 to {} "
                    "give {:.4g} to {:.4g}",
                    ratio, shape.width, shape.width, achieved(1), achieved(shape.width)));
  }
  return best;
}

std::unique_ptr<Method> make_subspace(const MethodOptions& options, const ModelShape& shape,
                                      DType compute) {
  if (options.rank.has_value() == options.ratio.has_value()) {
    throw std::invalid_argument(
        "compression method \"subspace\" takes exactly one of rank and ratio");
  }
  const int rank = options.rank
                       ? *options.rank
                       : subspace_rank_for_ratio(*options.ratio, shape, compute, options.wire);
  if (rank < 1 || rank > shape.width) {
    throw std::invalid_argument(
        fmt::format("subspace rank {} is outside 1 to the model's width {}", rank, shape.width));
  }
  return std::make_unique<SubspaceMethod>(options, rank, shape, compute);
}

}  // namespace strait
