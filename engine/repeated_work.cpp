#include "engine/repeated_work.h"

namespace strait {

void RepeatedWork::prepare(Context& ctx, Frame& frame, const Work& work) {
  if (!ctx.ops.notes_ops() || !done_once_ || sequence_) return;
  before_ = marks(ctx, frame);
  ctx.ops.begin_noting();
  try {
    result_ = work();
  } catch (...) {
    ctx.ops.abandon_noting();
    throw;
  }
  sequence_ = ctx.ops.end_noting();
  after_ = marks(ctx, frame);
  ctx.scratch.rewind(before_.scratch);
  frame.arena.rewind(before_.frame);
}

Tensor RepeatedWork::run(Context& ctx, Frame& frame, const Work& work) {
  if (!sequence_) {  // the first time lets the backend choose its kernels and grow its own memory
    done_once_ = true;
    return work();
  }
  STRAIT_CHECK(marks(ctx, frame) == before_,
               "work that repeats finds its arenas elsewhere than before");
  ctx.scratch.restore(after_.scratch);
  frame.arena.restore(after_.frame);
  ctx.ops.perform(*sequence_);
  return result_;
}

}  // namespace strait
