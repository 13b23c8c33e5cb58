#include "engine/codec/anchors.h"

#include <fmt/format.h>

#include <stdexcept>

#include "engine/codec/projection.h"
#include "engine/manifold/orthonormal.h"

namespace strait {
namespace {

// The parameter `name`, declared once by whichever side of the stage comes first.
Parameter* declared_once(ParameterList& parameters, const std::string& name, Shape shape,
                         const Initialiser& init) {
  for (Parameter& p : parameters.parameters())
    if (p.name == name) return &p;
  return parameters.declare(name, shape, ParameterGroup::anchor, init);
}

// -dy where `sign` is negative.
Tensor signed_copy(Context& ctx, Tensor x, double sign) {
  if (sign == 1.0) return x;
  Tensor y = ctx.scratch.take(x.shape, x.dtype);
  ctx.ops.cast(y, x);
  ctx.ops.scale(y, sign);
  return y;
}

class FactorisedAnchors final : public Anchors {
 public:
  FactorisedAnchors(Parameter* e, Buffer* p) : e_(e), p_(p) {}

  void add(Context& ctx, Tensor y, Tensor ids, double sign) override {
    ArenaScope scope(ctx.scratch);
    ctx.ops.matmul(y, rows(ctx, ids, sign), false, p_->value, false, true);
  }
  void backward(Context& ctx, Tensor dy, Tensor ids, double sign) override {
    ArenaScope scope(ctx.scratch);
    Tensor de = ctx.scratch.take({dy.size(0), e_->shape[1]}, dy.dtype);
    ctx.ops.matmul(de, dy, false, p_->value, true, false);
    ctx.ops.scatter_add_rows(e_->grad, signed_copy(ctx, de, sign), ids);
  }
  void backward_projected(Context& ctx, Tensor dz, Tensor u, Tensor ids, double sign) override {
    ArenaScope scope(ctx.scratch);
    Tensor pu = ctx.scratch.take({e_->shape[1], u.size(1)}, u.dtype);
    ctx.ops.matmul(pu, p_->value, false, u, false, false);
    Tensor de = ctx.scratch.take({dz.size(0), e_->shape[1]}, dz.dtype);
    ctx.ops.matmul(de, dz, false, pu, true, false);
    ctx.ops.scatter_add_rows(e_->grad, signed_copy(ctx, de, sign), ids);
  }
  void add_product(Context& ctx, Tensor product, Tensor dz, Tensor ids, double sign) override {
    ArenaScope scope(ctx.scratch);
    // In S: this is one side of a difference of two that are close.
    Tensor inner = ctx.scratch.take({e_->shape[1], dz.size(1)}, product.dtype);
    ctx.ops.matmul(inner, rows(ctx, ids, sign), true, dz, false, false);
    ctx.ops.matmul(product, in_dtype(ctx, p_->value, product.dtype), true, inner, false, true);
  }

 private:
  Tensor rows(Context& ctx, Tensor ids, double sign) {
    Tensor e = ctx.scratch.take({ids.size(0), e_->shape[1]}, e_->value.dtype);
    ctx.ops.gather_rows(e, e_->value, ids);
    if (sign != 1.0) ctx.ops.scale(e, sign);
    return e;
  }

  Parameter* e_;
  Buffer* p_;
};

// A whole row a token, trainable or frozen.
class TableAnchors final : public Anchors {
 public:
  // One of the two is null.
  TableAnchors(Parameter* trained, Buffer* frozen) : trained_(trained), frozen_(frozen) {}

  void add(Context& ctx, Tensor y, Tensor ids, double sign) override {
    ctx.ops.add_gathered_rows(y, y, table(), ids, sign);
  }
  void backward(Context& ctx, Tensor dy, Tensor ids, double sign) override {
    if (trained_ == nullptr) return;
    ArenaScope scope(ctx.scratch);
    ctx.ops.scatter_add_rows(trained_->grad, signed_copy(ctx, dy, sign), ids);
  }
  void backward_projected(Context& ctx, Tensor dz, Tensor u, Tensor ids, double sign) override {
    if (trained_ == nullptr) return;
    ArenaScope scope(ctx.scratch);
    Tensor dy = ctx.scratch.take({dz.size(0), u.size(0)}, dz.dtype);
    ctx.ops.matmul(dy, dz, false, u, true, false);
    backward(ctx, dy, ids, sign);
  }
  void add_product(Context& ctx, Tensor product, Tensor dz, Tensor ids, double sign) override {
    ArenaScope scope(ctx.scratch);
    Tensor a = ctx.scratch.take({ids.size(0), table().size(1)}, dz.dtype);
    ctx.ops.gather_rows(a, table(), ids);
    ctx.ops.matmul(product, a, true, signed_copy(ctx, dz, sign), false, true);
  }

 private:
  Tensor table() const { return trained_ != nullptr ? trained_->value : frozen_->value; }

  Parameter* trained_;
  Buffer* frozen_;
};

// The transpose of a random matrix with orthonormal columns, (r_a, d).
Initialiser orthonormal_rows(uint64_t seed, const std::string& name, int64_t rank, int64_t width) {
  return [=](std::vector<double>& p) {
    std::vector<double> q(p.size());
    normal(seed, name, 1.0)(q);
    orthonormalise(q, width, rank);
    for (int64_t i = 0; i < width; ++i)
      for (int64_t j = 0; j < rank; ++j)
        p[static_cast<size_t>(j * width + i)] = q[static_cast<size_t>(i * rank + j)];
  };
}

// E = W P^T of the model's initial token table W (V,d), or W itself.
Initialiser from_token_embedding(const MethodContext& c, int64_t rank, const Initialiser& rows) {
  return [seed = c.seed, V = int64_t{c.shape.vocabulary}, d = int64_t{c.shape.width}, rank,
          rows](std::vector<double>& e) {
    if (!rows) return normal(seed, "model.embed_tokens.weight", 0.02)(e);
    std::vector<double> p(static_cast<size_t>(rank * d)), w(static_cast<size_t>(d));
    rows(p);
    const Philox rng{seed};
    const uint64_t stream = hash_name("model.embed_tokens.weight");
    for (int64_t t = 0; t < V; ++t) {  // a row at a time: the whole table may not fit
      for (int64_t i = 0; i < d; ++i)
        w[static_cast<size_t>(i)] = 0.02 * normal_at(rng, stream, static_cast<uint64_t>(t * d + i));
      for (int64_t j = 0; j < rank; ++j) {
        double sum = 0;
        for (int64_t i = 0; i < d; ++i)
          sum += w[static_cast<size_t>(i)] * p[static_cast<size_t>(j * d + i)];
        e[static_cast<size_t>(t * rank + j)] = sum;
      }
    }
  };
}

}  // namespace

std::unique_ptr<Anchors> make_anchors(const MethodContext& c, const AnchorOptions& o, uint64_t seed,
                                      int rank, int boundary, BoundaryEnd end) {
  if (o.kind == "none") return nullptr;
  if (o.kind == "static")
    return std::make_unique<TableAnchors>(
        nullptr, declare_token_table(c.parameters, c.shape, seed, "anchors.static"));
  // The sender's side of boundary b belongs to stage b, the receiver's to stage b + 1.
  const bool sender = end == BoundaryEnd::sender;
  const int stage = sender ? boundary : boundary + 1;
  const std::string name = o.tables == "per_stage"
                               ? fmt::format("anchors.{}", stage)
                               : fmt::format("anchors.{}.{}", stage, sender ? "output" : "input");
  const bool full = o.kind == "full";
  const int64_t d = c.shape.width, columns = full ? d : o.rank.value_or(rank);
  if (columns < 1 || columns > d)
    throw std::invalid_argument(
        fmt::format("mapl anchor_rank {} is outside 1 to the model's width {}", columns, d));
  const Initialiser frozen_rows =
      full ? Initialiser{} : orthonormal_rows(seed, name + ".rows", columns, d);
  const Initialiser init = o.init == "zero" ? zeros()
                           : o.init == "token_embedding"
                               ? from_token_embedding(c, columns, frozen_rows)
                               : normal(c.seed, name + ".weight", 0.02);
  Parameter* e = declared_once(c.parameters, name + ".weight", {c.shape.vocabulary, columns}, init);
  if (full) return std::make_unique<TableAnchors>(e, nullptr);
  return std::make_unique<FactorisedAnchors>(
      e, c.parameters.declare_constant(name + ".rows", {columns, d}, c.parameters.dtype(),
                                       frozen_rows));
}

}  // namespace strait
