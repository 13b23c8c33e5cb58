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
  using Work = std::function<Tensor()>;
  // To be called right before run() with the same work, outside what is timed: notes it, if it is time to.
  void prepare(Context& ctx, Frame& frame, const Work& work);
  // work() takes memory from ctx.scratch and frame.arena, asks for ops and returns what it made; it must not upload, download
  // or wait. Once it is noted it runs no more: what modules keep on the host for the backward pass stays as the noting, or an
  // evaluation since, has left it, and only noted work may look at it. Throws std::logic_error if the arenas do not stand where they
  // stood.
  Tensor run(Context& ctx, Frame& frame, const Work& work);

 private:
  struct Marks {
    size_t scratch = 0, frame = 0;
    bool operator==(const Marks&) const = default;
  };
  static Marks marks(const Context& ctx, const Frame& frame) {
    return {ctx.scratch.mark(), frame.arena.mark()};
  }

  bool done_once_ = false;
  std::unique_ptr<OpSequence> sequence_;
  Marks before_, after_;
  Tensor result_;
};

}  // namespace strait
