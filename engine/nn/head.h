// Final norm, LM head and loss, fused: logits exist for `chunk_rows` tokens at a time, and in training the gradient of the
// head's input and weight is taken while they do (as in fused linear cross-entropy). So the last stage's forward holds the
// head's backward, and its memory does not grow with the vocabulary.
#pragma once

#include <vector>

#include "engine/nn/module.h"

namespace strait {

class Head {
 public:
  Head(const ModelShape& shape, uint64_t seed, int frames, int64_t chunk_rows,
       ParameterList& parameters);

  // loss_sum (1) f64 = sum over the microbatch of -ln p(target), ignored targets excluded.
  void forward(Context& ctx, Frame& frame, Tensor loss_sum, Tensor x);
  // The logits of every row, (N, V) T, for tests and export; keeps nothing.
  void logits(Context& ctx, Frame& frame, Tensor logits, Tensor x);
  void backward(Context& ctx, Frame& frame, Tensor dx);

 private:
  struct Saved {
    Tensor x, rstd, dh;
  };
  ModelShape shape_;
  int64_t chunk_rows_;
  Parameter *norm_, *weight_;
  std::vector<Saved> saved_;
};

}  // namespace strait
