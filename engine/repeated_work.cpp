#include "engine/repeated_work.h"

namespace strait {

void RepeatedWork::note(Context& ctx, const std::function<Tensor()>& work) {
  ctx.ops.begin_noting();
  try {
    result_ = work();
  } catch (...) {
    ctx.ops.abandon_noting();
    throw;
  }
  sequence_ = ctx.ops.end_noting();
}

Tensor RepeatedWork::run(Context& ctx, Frame& frame, const std::function<Tensor()>& work) {
  if (!ctx.ops.notes_ops()) return work();
  if (!done_once_) {  // lets the backend choose its kernels and grow its own memory
    done_once_ = true;
    return work();
  }
  const auto marks = [&] { return Marks{ctx.scratch.mark(), frame.arena.mark()}; };
  if (!sequence_) {
    before_ = marks();
    note(ctx, work);
    after_ = marks();
  } else {
    STRAIT_CHECK(marks() == before_, "work that repeats finds its arenas elsewhere than before");
    ctx.scratch.restore(after_.scratch);
    frame.arena.restore(after_.frame);
  }
  ctx.ops.perform(*sequence_);
  return result_;
}

}  // namespace strait
