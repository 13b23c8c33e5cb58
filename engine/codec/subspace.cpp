#include "engine/codec/subspace.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>
#include <stdexcept>
#include <utility>

#include "engine/codec/projection.h"
#include "engine/codec/subspace_fold.h"
#include "engine/codec/subspace_full.h"
#include "engine/codec/subspace_motion.h"

namespace strait {
namespace {

// As a table of type `dtype` holds it.
double rounded(double x, DType dtype) {
  if (dtype == DType::f64) return x;
  const auto f = static_cast<float>(x);
  return static_cast<double>(dtype == DType::bf16 ? static_cast<float>(bfloat16(f)) : f);
}

// E0 = T_fixed U (section 2.2). The constants may not be filled in yet, so both come from their initialisers again.
Initialiser projected_table(const Buffer* basis, const Buffer* fixed) {
  return [basis, fixed](std::vector<double>& e) {
    const int64_t d = basis->shape[0], k = basis->shape[1];
    std::vector<double> u(static_cast<size_t>(d * k)),
        table(e.size() / static_cast<size_t>(k) * static_cast<size_t>(d));
    basis->init(u);
    fixed->init(table);
    const int64_t v = static_cast<int64_t>(e.size()) / k;
    for (int64_t t = 0; t < v; ++t) {
      double* row = e.data() + t * k;
      for (int64_t c = 0; c < d; ++c) {
        const double x = rounded(table[static_cast<size_t>(t * d + c)], fixed->dtype);
        for (int64_t j = 0; j < k; ++j) row[j] += x * u[static_cast<size_t>(c * k + j)];
      }
    }
  };
}

// Of E: the same in all variants.
Initialiser embedding_init(const MethodContext& c, const MethodOptions& o, const Buffer* basis,
                           const Buffer* fixed) {
  if (o.embedding_init == "projected") return projected_table(basis, fixed);
  return normal(c.seed, "model.embed_tokens.coordinates", o.embedding_init == "small" ? 0.02 : 1.0);
}

// Of Z: the same in all variants.
Initialiser projection_init(const MethodContext& c, const MethodOptions& o, const std::string& name,
                            int layer) {
  return o.z_init == "zero" ? zeros()
                            : normal(c.seed, name + std::string(kCoordinates),
                                     0.02 / std::sqrt(2.0 * (layer + 1)));
}

class SubspaceEmbedding final : public Embedding {
 public:
  SubspaceEmbedding(const MethodContext& c, Buffer* basis, Buffer* fixed, const Initialiser& init)
      : u_(basis),
        fixed_(fixed),
        e_(c.parameters.declare("model.embed_tokens" + std::string(kCoordinates),
                                {c.shape.vocabulary, basis->shape[1]}, ParameterGroup::embedding,
                                init)) {}

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
  Buffer *u_, *fixed_;
  Parameter* e_;
};

class SubspaceProjection final : public Projection {
 public:
  SubspaceProjection(const MethodContext& c, Buffer* basis, const std::string& name, int in,
                     const Initialiser& init)
      : u_(basis),
        z_(c.parameters.declare(name + std::string(kCoordinates), {in, basis->shape[1]},
                                ParameterGroup::matrix, init)) {
    z_->input_first = true;
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
  Buffer* u_;
  Parameter* z_;
};

class SubspaceMethod final : public Method {
 public:
  SubspaceMethod(MethodOptions options, SubspaceVariant variant, int rank, const ModelShape& shape,
                 DType compute)
      : options_(std::move(options)),
        variant_(variant),
        rank_(rank),
        compute_(compute),
        fold_(shape, rank, options_.basis_seed, compute, variant) {}
  std::unique_ptr<Codec> make_codec(const MethodContext& c, int boundary,
                                    BoundaryEnd end) const override {
    std::unique_ptr<BasisMotion> motion;
    if (options_.update_every > 0)
      motion = make_basis_motion(c, options_, variant_, basis(c), boundary, end);
    return make_projection_codec(c, "subspace " + options_.variant, options_.wire, basis(c),
                                 token_table(c), std::move(motion), true);
  }
  std::unique_ptr<Embedding> make_embedding(const MethodContext& c) const override {
    Buffer *u = basis(c), *fixed = token_table(c);
    const Initialiser init = embedding_init(c, options_, u, fixed);
    if (variant_ != SubspaceVariant::reparametrised)
      return make_full_embedding(c, variant_, u, fixed, init);
    return std::make_unique<SubspaceEmbedding>(c, u, fixed, init);
  }
  std::unique_ptr<Projection> make_projection(const MethodContext& c, const std::string& name,
                                              int layer, int in, bool crosses) const override {
    if (!crosses) return Method::make_projection(c, name, layer, in, crosses);
    const Initialiser init = projection_init(c, options_, name, layer);
    if (variant_ != SubspaceVariant::reparametrised)
      return make_full_projection(c, variant_, basis(c), name, in, init);
    return std::make_unique<SubspaceProjection>(c, basis(c), name, in, init);
  }
  std::optional<int> rank() const override { return rank_; }
  ModelConstraint constraint() const override {
    return {"subspace", rank_, options_.basis_seed, compute_, options_.variant};
  }
  bool adds(const std::string& name) const override { return name.starts_with("subspace."); }
  std::optional<ParameterState> to_plain(const std::string& name,
                                         const ParameterSource& own) const override {
    return fold_.to_plain(name, own);
  }
  std::optional<ParameterState> from_plain(const std::string& name,
                                           const ParameterSource& plain) const override {
    return fold_.from_plain(name, plain);
  }

 private:
  Buffer* basis(const MethodContext& c) const {
    return subspace_basis(c.parameters, c.shape, rank_, options_.basis_seed);
  }
  Buffer* token_table(const MethodContext& c) const {
    return subspace_token_table(c.parameters, c.shape, options_.basis_seed);
  }

  MethodOptions options_;
  SubspaceVariant variant_;
  int rank_;
  DType compute_;
  SubspaceFold fold_;
};

SubspaceVariant variant_of(const std::string& name) {
  if (name == "reparametrised") return SubspaceVariant::reparametrised;
  if (name == "projected_gradient") return SubspaceVariant::projected_gradient;
  if (name == "projected_weights") return SubspaceVariant::projected_weights;
  throw std::invalid_argument(fmt::format(
      "subspace variant is \"{}\"; allowed: reparametrised, projected_gradient, projected_weights",
      name));
}

void check_motion(const MethodOptions& o) {
  const auto refuse = [](const char* name, const auto& value, const char* allowed) {
    throw std::invalid_argument(
        fmt::format("subspace {} is {}; it must be {}", name, value, allowed));
  };
  if (o.update_every < 0) refuse("update_every", o.update_every, "0 (never) or positive");
  if (!(o.update_step > 0 && o.update_step <= 1))
    refuse("update_step", o.update_step, "above 0 and at most 1");
  if (!(o.max_angle > 0 && o.max_angle < std::numbers::pi / 2))
    refuse("max_angle", o.max_angle, "above 0 and below pi/2");
  if (o.transport != "project" && o.transport != "keep")
    refuse("transport", o.transport, "project or keep");
}

}  // namespace

Buffer* subspace_basis(ParameterList& parameters, const ModelShape& shape, int rank,
                       uint64_t seed) {
  return declare_basis(parameters, shape, rank, seed, "subspace.U", true);
}

Buffer* subspace_token_table(ParameterList& parameters, const ModelShape& shape, uint64_t seed) {
  return declare_token_table(parameters, shape, seed, "subspace.T_fixed");
}

std::unique_ptr<Method> make_subspace(const MethodOptions& options, const ModelShape& shape,
                                      DType compute) {
  const int rank = projection_rank("subspace", options, shape, compute, true);
  check_motion(options);
  return std::make_unique<SubspaceMethod>(options, variant_of(options.variant), rank, shape,
                                          compute);
}

}  // namespace strait
