// `lowrank`: a factorisation of rank r of each message by one step of subspace iteration (PowerSGD: Vogels, Karimireddy, Jaggi 2019), from the right
// factor of the message before:
//
//   P = orth(X V)   (N,r)      Q = X^T P   (d,r)      sent: P, Q;  X^ = P Q^T;  V' = orth(Q)
//
// X^ is X projected onto the span of P. orth is Cholesky QR, twice. A direction that a message has not (fewer tokens than r, zeros) is 0 in P and Q; a
// thousandth of a fixed random matrix in V brings it back.
//
// Sums are in S. Operands are in T where they have its numbers anyway: X, and, with a wire of type T, the P and Q that arrive; V is rounded to T, which
// turns where the iteration begins and nothing else.
#include <cmath>
#include <utility>

#include "engine/codec/projection.h"
#include "engine/codec/tensor_codec.h"
#include "engine/manifold/cholesky_qr.h"

namespace strait {
namespace {

class LowrankCodec final : public TensorCodec {
 public:
  LowrankCodec(const DirectionOptions& o, int64_t rank, const TensorCodecContext& c)
      : pool_(c.method.pool), wire_(o.wire), rank_(rank) {
    if (!c.encodes) return;
    const Shape shape = {c.method.shape.width, rank};
    const DType s = statistics_of(c.compute());
    const Initialiser init = normal(c.method.seed, c.name("start"),
                                    1.0 / std::sqrt(static_cast<double>(c.method.shape.width)));
    right_ = c.method.parameters.declare_state(c.name("right_factor"), shape, s, init);
    right_->local = true;
    start_ = c.method.parameters.declare_constant(c.name("start"), shape, s, init);
  }

  Message encode(Context& ctx, Frame& frame, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    Backend& ops = ctx.ops;
    const int64_t N = x.size(0), d = x.size(1);
    const DType s = start_->dtype;
    Message m(pool_, ops, {{wire_, {N, rank_}}, {wire_, {d, rank_}}});
    Tensor v = ctx.scratch.take({d, rank_}, s), p = ctx.scratch.take({N, rank_}, s);
    ops.cast(v, right_->value);
    ops.axpy(v, 1e-3, start_->value);
    ops.matmul(p, x, false, in_dtype(ctx, v, x.dtype), false, false);
    orthonormalise_columns(ctx, p);
    ops.cast(m.section(0), p);
    // Q fits the factor that arrives.
    if (wire_ == x.dtype) {
      ops.matmul(v, x, true, m.section(0), false, false);
    } else {
      ops.cast(p, m.section(0));
      ops.matmul(v, in_dtype(ctx, x, s), true, p, false, false);
    }
    ops.cast(m.section(1), v);
    if (frame.training) {
      orthonormalise_columns(ctx, v);
      ops.cast(right_->value, v);
    }
    return m;
  }
  void decode(Context& ctx, Frame&, Tensor y, const Message& m) override {
    if (wire_ == y.dtype) return ctx.ops.matmul(y, m.section(0), false, m.section(1), true, false);
    ArenaScope scope(ctx.scratch);
    Tensor q = ctx.scratch.take(m.section(1).shape, statistics_of(y.dtype));
    ctx.ops.cast(q, m.section(1));
    expand(ctx, y, m.section(0), q);
  }

 private:
  MessagePool& pool_;
  DType wire_;
  int64_t rank_;
  Buffer *right_ = nullptr, *start_ = nullptr;  // (d,r) S, at the end that encodes
};

}  // namespace

std::unique_ptr<TensorCodec> make_lowrank_codec(const DirectionOptions& options, int64_t size,
                                                const TensorCodecContext& c) {
  return std::make_unique<LowrankCodec>(options, size, c);
}

}  // namespace strait
