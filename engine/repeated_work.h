// A piece of a step that asks for the same ops on the same memory in every step, such as a stage's forward of one microbatch: where
// the backend can note ops, it is done as written once, noted the second time, and from then on performed by one call, because
// asking a GPU for hundreds of small ops can take longer than the ops.
#pragma once

#include <functional>
#include <memory>

#include "engine/nn/module.h"

namespace strait {

class RepeatedWork {
 public:
  // work() takes memory from ctx.scratch and frame.arena, asks for ops and returns what it made; it must not upload, download
  // or wait. What it leaves on the host (the tensors that modules keep for the backward pass) stays as the second time left it,
  // and so does what it took: throws std::logic_error if the arenas do not stand where they then stood.
  Tensor run(Context& ctx, Frame& frame, const std::function<Tensor()>& work);

 private:
  struct Marks {
    size_t scratch = 0, frame = 0;
    bool operator==(const Marks&) const = default;
  };
  void note(Context& ctx, const std::function<Tensor()>& work);

  bool done_once_ = false;
  std::unique_ptr<OpSequence> sequence_;
  Marks before_, after_;
  Tensor result_;
};

}  // namespace strait
