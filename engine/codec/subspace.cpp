#include "engine/codec/subspace.h"

#include <cmath>

#include "engine/codec/projection.h"
#include "engine/codec/subspace_fold.h"

namespace strait {
namespace {

class SubspaceEmbedding final : public Embedding {
 public:
  SubspaceEmbedding(const MethodContext& c, const MethodOptions& o, int rank)
      : u_(subspace_basis(c.parameters, c.shape, rank, o.basis_seed)),
        fixed_(subspace_token_table(c.parameters, c.shape, o.basis_seed)) {
    const std::string name = "model.embed_tokens.coordinates";
    Initialiser init = normal(c.seed, name, o.embedding_init == "small" ? 0.02 : 1.0);
    if (o.embedding_init == "projected") init = projected(c.shape, rank, c.parameters.dtype());
    e_ = c.parameters.declare(name, {c.shape.vocabulary, rank}, ParameterGroup::embedding, init);
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

  Buffer *u_, *fixed_;
  Parameter* e_ = nullptr;
};

class SubspaceProjection final : public Projection {
 public:
  SubspaceProjection(const MethodContext& c, const MethodOptions& o, int rank,
                     const std::string& name, int layer, int in)
      : u_(subspace_basis(c.parameters, c.shape, rank, o.basis_seed)) {
    const std::string full = name + ".coordinates";
    Initialiser init =
        o.z_init == "zero" ? zeros() : normal(c.seed, full, 0.02 / std::sqrt(2.0 * (layer + 1)));
    z_ = c.parameters.declare(full, {in, rank}, ParameterGroup::matrix, init);
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
  SubspaceMethod(MethodOptions options, int rank, const ModelShape& shape, DType compute)
      : options_(std::move(options)),
        rank_(rank),
        compute_(compute),
        fold_(shape, rank, options_.basis_seed, compute) {}
  std::unique_ptr<Codec> make_codec(const MethodContext& c, int, BoundaryEnd) const override {
    return make_projection_codec(c, "subspace C, U version 0", options_.wire,
                                 subspace_basis(c.parameters, c.shape, rank_, options_.basis_seed),
                                 subspace_token_table(c.parameters, c.shape, options_.basis_seed),
                                 true);
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

Buffer* subspace_basis(ParameterList& parameters, const ModelShape& shape, int rank,
                       uint64_t seed) {
  return declare_basis(parameters, shape, rank, seed, "subspace.U");
}

Buffer* subspace_token_table(ParameterList& parameters, const ModelShape& shape, uint64_t seed) {
  return declare_token_table(parameters, shape, seed, "subspace.T_fixed");
}

std::unique_ptr<Method> make_subspace(const MethodOptions& options, const ModelShape& shape,
                                      DType compute) {
  const int rank = projection_rank("subspace", options, shape, compute, true);
  return std::make_unique<SubspaceMethod>(options, rank, shape, compute);
}

}  // namespace strait
