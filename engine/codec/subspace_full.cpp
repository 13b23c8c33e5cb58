#include "engine/codec/subspace_full.h"

#include <vector>

namespace strait {
namespace {

// A trainable matrix (rows,d) whose rows lie in col(U).
class RowsInSubspace {
 public:
  RowsInSubspace(const MethodContext& c, SubspaceVariant variant, Buffer* basis,
                 const std::string& name, int64_t rows, ParameterGroup group,
                 const Initialiser& init)
      : u_(basis), variant_(variant) {
    w_ = c.parameters.declare(name, {rows, basis->shape[0]}, group, expanded(basis, init));
    w_->row_moments = variant == SubspaceVariant::projected_gradient;
  }
  Parameter& parameter() const { return *w_; }

  void before_update(Context& ctx) const {
    if (variant_ == SubspaceVariant::projected_gradient)
      carry_rows(ctx, w_->grad, u_->value, u_->value);
  }
  void after_update(Context& ctx, int64_t step) const {
    if (variant_ == SubspaceVariant::projected_gradient && step % kReproject != 0) return;
    carry_rows(ctx, w_->master, u_->value, u_->value);
    if (w_->value.data != w_->master.data) ctx.ops.cast(w_->value, w_->master);
  }

 private:
  // Z U^T. The constants may not be filled in yet, so U comes from its initialiser again.
  static Initialiser expanded(const Buffer* basis, const Initialiser& init) {
    return [basis, init](std::vector<double>& w) {
      const int64_t d = basis->shape[0], k = basis->shape[1];
      const int64_t rows = static_cast<int64_t>(w.size()) / d;
      std::vector<double> u(static_cast<size_t>(d * k)), z(static_cast<size_t>(rows * k), 0.0);
      basis->init(u);
      init(z);
      for (int64_t r = 0; r < rows; ++r)
        for (int64_t c = 0; c < d; ++c) {
          double sum = 0;
          for (int64_t j = 0; j < k; ++j)
            sum += z[static_cast<size_t>(r * k + j)] * u[static_cast<size_t>(c * k + j)];
          w[static_cast<size_t>(r * d + c)] = sum;
        }
    };
  }

  Buffer* u_;
  SubspaceVariant variant_;
  Parameter* w_ = nullptr;
};

class FullProjection final : public Projection {
 public:
  explicit FullProjection(RowsInSubspace w) : w_(w) {}
  void forward(Context& ctx, Tensor y, Tensor x) override {
    ctx.ops.matmul(y, x, false, w_.parameter().value, false, false);
  }
  Tensor backward_input(Context& ctx, Tensor dx, Tensor dy) override {
    ctx.ops.matmul(dx, dy, false, w_.parameter().value, true, false);
    return dy;
  }
  void backward_weight(Context& ctx, Tensor x, Tensor dy_part) override {
    ctx.ops.matmul(w_.parameter().grad, x, true, dy_part, false, true);
  }
  void before_update(Context& ctx) override { w_.before_update(ctx); }
  void after_update(Context& ctx, int64_t step) override { w_.after_update(ctx, step); }

 private:
  RowsInSubspace w_;
};

class FullEmbedding final : public Embedding {
 public:
  FullEmbedding(RowsInSubspace table, Buffer* fixed) : table_(table), fixed_(fixed) {}
  void forward(Context& ctx, Frame& frame, Tensor y) override {
    ctx.ops.gather_rows(y, table_.parameter().value, frame.ids);
    ctx.ops.add_gathered_rows(y, y, fixed_->value, frame.ids, 1.0);
  }
  void backward(Context& ctx, Frame& frame, Tensor dy) override {
    ctx.ops.scatter_add_rows(table_.parameter().grad, dy, frame.ids);
  }
  void before_update(Context& ctx) override { table_.before_update(ctx); }
  void after_update(Context& ctx, int64_t step) override { table_.after_update(ctx, step); }

 private:
  RowsInSubspace table_;
  Buffer* fixed_;
};

}  // namespace

void carry_rows(Context& ctx, const Tensor& matrix, const Tensor& from, const Tensor& to) {
  ArenaScope scope(ctx.scratch);
  Tensor c = ctx.scratch.take({matrix.size(0), from.size(1)}, matrix.dtype);
  ctx.ops.matmul(c, matrix, false, from, false, false);
  ctx.ops.matmul(matrix, c, false, to, true, false);
}

std::unique_ptr<Projection> make_full_projection(const MethodContext& c, SubspaceVariant variant,
                                                 Buffer* basis, const std::string& name, int in,
                                                 const Initialiser& init) {
  return std::make_unique<FullProjection>(RowsInSubspace(
      c, variant, basis, name + std::string(kInSubspace), in, ParameterGroup::matrix, init));
}

std::unique_ptr<Embedding> make_full_embedding(const MethodContext& c, SubspaceVariant variant,
                                               Buffer* basis, Buffer* token_table,
                                               const Initialiser& init) {
  const std::string name = "model.embed_tokens" + std::string(kInSubspace);
  return std::make_unique<FullEmbedding>(
      RowsInSubspace(c, variant, basis, name, c.shape.vocabulary, ParameterGroup::embedding, init),
      token_table);
}

}  // namespace strait
