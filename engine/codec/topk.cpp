// `topk`: of each token the k entries of largest magnitude, with their columns. Error feedback (Seide et al. 2014; Stich, Cordonnier, Jaggi 2018)
// adds to what is encoded what the same microbatch of the steps before has lost: e += x, send top_k(e), e -= what was sent.
#include "engine/codec/tensor_codec.h"

namespace strait {
namespace {

class TopkCodec final : public TensorCodec {
 public:
  TopkCodec(const DirectionOptions& o, int64_t k, const TensorCodecContext& c)
      : pool_(c.method.pool), wire_(o.wire), k_(k), index_(entry_index(c.method.shape.width)) {
    if (o.error_feedback == "none" || !c.encodes) return;
    STRAIT_CHECK(c.batch.rows > 0, "error feedback needs the shape of the batches");
    error_ = c.method.parameters.declare_state(
        c.name("error"), {c.batch.microbatches, c.batch.rows, c.method.shape.width},
        statistics_of(c.compute()), zeros());
    error_->moment = error_->local = true;
  }

  Message encode(Context& ctx, Frame& frame, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    const Shape entries = {x.size(0), k_};
    Message m(pool_, ctx.ops, {{wire_, entries}, {index_, entries}});
    if (error_ == nullptr || !frame.training) {
      ctx.ops.topk_rows(m.section(0), m.section(1), x);
      return m;
    }
    const Tensor error = error_->value.slice(0, frame.microbatch, 1).view(x.shape);
    Tensor sent = ctx.scratch.take(x.shape, error.dtype);
    ctx.ops.axpy(error, 1.0, x);
    ctx.ops.topk_rows(m.section(0), m.section(1), error);
    ctx.ops.scatter_entries(sent, m.section(0), m.section(1));
    ctx.ops.axpy(error, -1.0, sent);
    return m;
  }
  void decode(Context& ctx, Frame&, Tensor y, const Message& m) override {
    ctx.ops.scatter_entries(y, m.section(0), m.section(1));
  }

 private:
  MessagePool& pool_;
  DType wire_;
  int64_t k_;
  DType index_;
  Buffer* error_ = nullptr;  // (microbatches, N, d) S, at the end that encodes
};

}  // namespace

std::unique_ptr<TensorCodec> make_topk_codec(const DirectionOptions& options, int64_t size,
                                             const TensorCodecContext& c) {
  return std::make_unique<TopkCodec>(options, size, c);
}

}  // namespace strait
