// `column_mask` (specs/subspace_models.md, section 11): the m columns of largest energy over the message's tokens, s_j = sum_n x_nj^2; the receiver
// sets the others to 0. Gradients are masked by the columns of their activations, so they are exact for the masked model, the columns taken for
// constant.
//
//   refresh 0  columns of each message by its own energy                                                            variant (a)
//   refresh R  by the energy of the first microbatch of every R-th step and of the first of a training or phase     variant (b)
#include <utility>
#include <vector>

#include "engine/codec/tensor_codec.h"

namespace strait {
namespace {

// The columns of each frame in flight, for its gradients: (1,m) u16 in the frame.
using Kept = std::vector<Tensor>;

class MaskedGradients final : public TensorCodec {
 public:
  MaskedGradients(MessagePool& pool, DType wire, std::shared_ptr<const Kept> columns)
      : pool_(pool), wire_(wire), columns_(std::move(columns)) {}
  Message encode(Context& ctx, Frame& frame, Tensor x) override {
    const Tensor columns = of(frame);
    Message m(pool_, ctx.ops, {{wire_, {x.size(0), columns.size(1)}}});
    ctx.ops.gather_entries(m.section(0), x, columns);
    return m;
  }
  void decode(Context& ctx, Frame& frame, Tensor y, const Message& m) override {
    ctx.ops.scatter_entries(y, m.section(0), of(frame));
  }

 private:
  Tensor of(const Frame& frame) const { return columns_->at(static_cast<size_t>(frame.index)); }

  MessagePool& pool_;
  DType wire_;
  std::shared_ptr<const Kept> columns_;
};

class ColumnMaskCodec final : public TensorCodec {
 public:
  ColumnMaskCodec(const DirectionOptions& o, int64_t m, const TensorCodecContext& c)
      : pool_(c.method.pool),
        wire_(o.wire),
        width_(c.method.shape.width),
        columns_(m),
        refresh_(o.refresh),
        first_step_(c.batch.first_step),
        keeps_(c.has_adjoint) {
    if (refresh_ == 0 || !c.encodes) return;
    energy_ = c.method.parameters.declare_state(c.name("energy"), {1, width_},
                                                statistics_of(c.compute()), zeros());
    energy_->local = true;
  }

  Message encode(Context& ctx, Frame& frame, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    Message m(pool_, ctx.ops, sections(x.size(0)));
    const Tensor columns = take(ctx, frame), energy = energy_of(ctx, frame, x);
    Tensor unused = ctx.scratch.take(columns.shape, energy.dtype);
    ctx.ops.topk_rows(unused, columns, energy);
    as_bits() ? ctx.ops.pack_columns(m.section(1), columns) : ctx.ops.cast(m.section(1), columns);
    ctx.ops.gather_entries(m.section(0), x, columns);
    return m;
  }
  void decode(Context& ctx, Frame& frame, Tensor y, const Message& m) override {
    ArenaScope scope(ctx.scratch);
    const Tensor columns = take(ctx, frame);
    as_bits() ? ctx.ops.unpack_columns(columns, m.section(1)) : ctx.ops.cast(columns, m.section(1));
    ctx.ops.scatter_entries(y, m.section(0), columns);
  }
  std::unique_ptr<TensorCodec> adjoint() override {
    return std::make_unique<MaskedGradients>(pool_, wire_, kept_);
  }

 private:
  bool as_bits() const { return mask_bytes(columns_, width_) < 2 * columns_; }
  std::vector<Message::Section> sections(int64_t rows) const {
    const Message::Section list = as_bits() ? Message::Section{DType::u8, {(width_ + 7) / 8}}
                                            : Message::Section{DType::u16, {1, columns_}};
    return {{wire_, {rows, columns_}}, list};
  }
  // Room for the columns: in the frame where its gradients need them.
  Tensor take(Context& ctx, Frame& frame) {
    if (!keeps_) return ctx.scratch.take({1, columns_}, DType::u16);
    if (kept_->size() <= static_cast<size_t>(frame.index))
      kept_->resize(static_cast<size_t>(frame.index) + 1);
    return (*kept_)[static_cast<size_t>(frame.index)] = frame.arena.take({1, columns_}, DType::u16);
  }
  // (1,d) S.
  Tensor energy_of(Context& ctx, const Frame& frame, const Tensor& x) {
    const bool due = frame.training && frame.microbatch == 0 && refresh_ > 0 &&
                     ((frame.step - 1) % refresh_ == 0 || frame.step == first_step_);
    const Tensor energy =
        refresh_ > 0 ? energy_->value : ctx.scratch.take({1, width_}, statistics_of(x.dtype));
    if (refresh_ == 0 || due) ctx.ops.column_sum_squares(energy.view({width_}), x);
    return energy;
  }

  MessagePool& pool_;
  DType wire_;
  int64_t width_, columns_, refresh_, first_step_;
  bool keeps_;
  Buffer* energy_ = nullptr;  // (1,d) S, of the last choice; at the end that encodes
  std::shared_ptr<Kept> kept_ = std::make_shared<Kept>();
};

}  // namespace

std::unique_ptr<TensorCodec> make_column_mask_codec(const DirectionOptions& options, int64_t size,
                                                    const TensorCodecContext& c) {
  return std::make_unique<ColumnMaskCodec>(options, size, c);
}

}  // namespace strait
