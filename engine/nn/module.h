// What a model is made of: modules with explicit forward and backward, because in this field the backward message is the
// design (design, section 4). Outputs are given by the caller; what the backward needs is kept in the frame, one frame a
// microbatch in flight.
#pragma once

#include <cstdint>

#include "engine/nn/model_shape.h"
#include "engine/nn/parameter.h"
#include "kernels/arena.h"
#include "kernels/backend.h"

namespace strait {

// What an op needs to run: the backend and the rank's scratch memory (a stack: take, use, rewind).
struct Context {
  Backend& ops;
  Arena& scratch;
};

// The saved activations of one microbatch in flight on this rank, and the microbatch itself.
struct Frame {
  int index = 0;  // which slot of the modules' saved state; < the schedule's frames_needed
  Arena arena;
  int64_t sequences = 0;  // B
  int64_t context = 0;    // T
  Tensor
      ids;  // (N) i32; from the data loader on the first stage, from the message where a codec sends ids, else undefined
  Tensor targets;    // (N) i32, last stage only; -1 is ignored
  Tensor positions;  // (T) i32
  // (B, n) i32 of the whole sequence, which T tokens are a shard of, in the order of its layout (context/layout.h: order()): tokens of
  // different documents do not meet in attention, padding is a document of its own. Undefined: one document.
  Tensor documents;
  double loss_scale = 1;  // dlogits are multiplied by it: 1 / tokens of the whole batch
  int64_t step = 0;       // 1-based; 0 in an evaluation
  int microbatch = 0;     // of the step
  int copy = 0;          // of this rank among those that hold the same parameters (Grid::copies_of)
  bool training = true;  // false: forward only, nothing is kept
  int64_t rows() const { return sequences * context; }
};

// (N, C) -> (N, C). forward() may keep `x` and `y` (they live as long as the frame).
class Module {
 public:
  virtual ~Module() = default;
  virtual void forward(Context& ctx, Frame& frame, Tensor y, Tensor x) = 0;
  // dx may not alias dy. Temporaries that backward_weight needs stay in scratch: the caller rewinds after it.
  virtual void backward_input(Context& ctx, Frame& frame, Tensor dx, Tensor dy) = 0;
  virtual void backward_weight(Context& ctx, Frame& frame) = 0;
};

// The matrices that write into the residual stream (attention output, FFN down): y (N, C) = x (N, in) W^T. A method that
// constrains the model (specs/subspace_models.md 1.3) gives its own.
class Projection {
 public:
  virtual ~Projection() = default;
  virtual void forward(Context& ctx, Tensor y, Tensor x) = 0;
  // Returns what backward_weight needs of dy (dy itself, or its coordinates in scratch).
  virtual Tensor backward_input(Context& ctx, Tensor dx, Tensor dy) = 0;
  virtual void backward_weight(Context& ctx, Tensor x, Tensor dy_part) = 0;
  // Once a step, when the gradients of all microbatches are there and before they are measured: makes of them what the optimizer is
  // to see. And once the parameters have moved in step `step` (1-based): puts them back where they must be.
  virtual void before_update(Context& /*ctx*/) {}
  virtual void after_update(Context& /*ctx*/, int64_t /*step*/) {}
};

// Token embedding of the first stage: y (N, C) from frame.ids.
class Embedding {
 public:
  virtual ~Embedding() = default;
  virtual void forward(Context& ctx, Frame& frame, Tensor y) = 0;
  virtual void backward(Context& ctx, Frame& frame, Tensor dy) = 0;
  // As those of Projection.
  virtual void before_update(Context& /*ctx*/) {}
  virtual void after_update(Context& /*ctx*/, int64_t /*step*/) {}
};

}  // namespace strait
