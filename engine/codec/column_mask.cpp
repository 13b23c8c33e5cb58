// `column_mask` (specs/subspace_models.md, section 11): the m columns of largest energy over the message's tokens, s_j = sum_n x_nj^2; the receiver
// sets the others to 0. Gradients are masked by the columns of their activations, so they are exact for the masked model, the columns taken for
// constant.
//
//   refresh 0  columns of each message by its own energy                                                            variant (a)
//   refresh R  by the energy of the first microbatch of every R-th step and of the first of a training or phase     variant (b)
//   anchors    static: of x - tau[ids], tau (V,d) a frozen random token table, put back behind; ids travel forward   variant (c), beside (a) or (b)
#include <utility>
#include <vector>

#include "engine/codec/projection.h"
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
        keeps_(c.has_adjoint),
        ids_(id_dtype(c.method.shape)) {
    if (o.anchors == "static")
      anchors_ = declare_token_table(c.method.parameters, c.method.shape, o.basis_seed,
                                     "column_mask.anchors");
    if (refresh_ == 0 || !c.encodes) return;
    energy_ = c.method.parameters.declare_state(c.name("energy"), {1, width_},
                                                statistics_of(c.compute()), zeros());
    energy_->local = true;
  }

  Message encode(Context& ctx, Frame& frame, Tensor x) override {
    ArenaScope scope(ctx.scratch);
    Message m(pool_, ctx.ops, sections(x.size(0)));
    if (anchors_ != nullptr) {
      ctx.ops.cast(m.section(ids_first() ? 0 : 1), frame.ids);
      Tensor dynamic = ctx.scratch.take(x.shape, statistics_of(x.dtype));
      ctx.ops.add_gathered_rows(dynamic, x, anchors_->value, frame.ids, -1.0);
      x = dynamic;
    }
    const Tensor columns = take(ctx, frame), energy = energy_of(ctx, frame, x);
    Tensor unused = ctx.scratch.take(columns.shape, energy.dtype);
    ctx.ops.topk_rows(unused, columns, energy);
    const Tensor list = list_of(m);
    as_bits() ? ctx.ops.pack_columns(list, columns) : ctx.ops.cast(list, columns);
    ctx.ops.gather_entries(values_of(m), x, columns);
    return m;
  }
  void decode(Context& ctx, Frame& frame, Tensor y, const Message& m) override {
    ArenaScope scope(ctx.scratch);
    const Tensor columns = take(ctx, frame);
    const Tensor list = list_of(m);
    as_bits() ? ctx.ops.unpack_columns(columns, list) : ctx.ops.cast(columns, list);
    if (anchors_ == nullptr) return ctx.ops.scatter_entries(y, values_of(m), columns);
    // Diagnostics decode at the end that encodes, whose frame has the ids and no room for them a second time.
    if (!frame.ids.defined()) frame.ids = frame.arena.take({y.size(0)}, DType::i32);
    ctx.ops.cast(frame.ids, m.section(ids_first() ? 0 : 1));
    Tensor dynamic = ctx.scratch.take(y.shape, statistics_of(y.dtype));
    ctx.ops.scatter_entries(dynamic, values_of(m), columns);
    ctx.ops.add_gathered_rows(y, dynamic, anchors_->value, frame.ids, 1.0);
  }
  uint64_t shared(Backend& ops) const override {
    return anchors_ == nullptr ? 0 : hash_tensor(ops, anchors_->value, 0);
  }
  std::unique_ptr<TensorCodec> adjoint() override {
    return std::make_unique<MaskedGradients>(pool_, wire_, kept_);
  }

 private:
  bool as_bits() const { return mask_bytes(columns_, width_) < 2 * columns_; }
  std::vector<Message::Section> sections(int64_t rows) const {
    const Message::Section list = as_bits() ? Message::Section{DType::u8, {(width_ + 7) / 8}}
                                            : Message::Section{DType::u16, {1, columns_}};
    std::vector<Message::Section> s = {{wire_, {rows, columns_}}, list};
    if (anchors_ != nullptr) s.insert(s.begin() + (ids_first() ? 0 : 1), {ids_, {rows}});
    return s;
  }
  // Wider sections lie first, so that all are aligned without padding; the list is the narrowest.
  bool ids_first() const { return anchors_ != nullptr && size_of(ids_) > size_of(wire_); }
  Tensor values_of(const Message& m) const { return m.section(ids_first() ? 1 : 0); }
  static Tensor list_of(const Message& m) { return m.section(m.sections() - 1); }
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
  DType ids_;                  // type of token ids on the wire
  Buffer* anchors_ = nullptr;  // tau (V,d) T; null: none
  Buffer* energy_ = nullptr;   // (1,d) S, of the last choice; at the end that encodes
  std::shared_ptr<Kept> kept_ = std::make_shared<Kept>();
};

}  // namespace

std::unique_ptr<TensorCodec> make_column_mask_codec(const DirectionOptions& options, int64_t size,
                                                    const TensorCodecContext& c) {
  return std::make_unique<ColumnMaskCodec>(options, size, c);
}

}  // namespace strait
