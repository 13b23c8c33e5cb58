// The unconstrained projection and embedding of a plain LLaMA.
#pragma once

#include "engine/nn/module.h"

namespace strait {

// W (C, in), `name` global; initial values N(0, stddev^2).
class DenseProjection final : public Projection {
 public:
  DenseProjection(ParameterList& parameters, uint64_t seed, const std::string& name, int in,
                  int width, double stddev)
      : w_(parameters.declare(name, {width, in}, ParameterGroup::matrix,
                              normal(seed, name, stddev))) {}
  void forward(Context& ctx, Tensor y, Tensor x) override {
    ctx.ops.matmul(y, x, false, w_->value, true, false);
  }
  Tensor backward_input(Context& ctx, Tensor dx, Tensor dy) override {
    ctx.ops.matmul(dx, dy, false, w_->value, false, false);
    return dy;
  }
  void backward_weight(Context& ctx, Tensor x, Tensor dy_part) override {
    ctx.ops.matmul(w_->grad, dy_part, true, x, false, true);
  }

 private:
  Parameter* w_;
};

// Table (V, C), initial values N(0, stddev^2).
class DenseEmbedding final : public Embedding {
 public:
  DenseEmbedding(ParameterList& parameters, uint64_t seed, const std::string& name, int vocabulary,
                 int width, double stddev)
      : table_(parameters.declare(name, {vocabulary, width}, ParameterGroup::embedding,
                                  normal(seed, name, stddev))) {}
  void forward(Context& ctx, Frame& frame, Tensor y) override {
    ctx.ops.gather_rows(y, table_->value, frame.ids);
  }
  void backward(Context& ctx, Frame& frame, Tensor dy) override {
    ctx.ops.scatter_add_rows(table_->grad, dy, frame.ids);
  }

 private:
  Parameter* table_;
};

}  // namespace strait
