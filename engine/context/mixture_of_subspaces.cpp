#include "engine/context/mixture_of_subspaces.h"

#include <fmt/format.h>

#include <array>
#include <utility>

#include "engine/context/subspace_side.h"

namespace strait {
namespace {

using record::MessageKind;
using record::Phase;

class MixtureOfSubspaces final : public KeyValueCodec {
 public:
  MixtureOfSubspaces(const MixtureOptions& o, const MixturePlace& place)
      : options_(o),
        shape_(place.shape),
        layer_(place.layer),
        type_(place.parameters.dtype()),
        wire_(o.wire.value_or(type_)),
        gradient_wire_(o.gradient_wire.value_or(statistics_of(type_))),
        exact_(o.local_block == "exact"),
        absorbs_(o.projection == "absorbed"),
        rope_(place.rope),
        saved_(static_cast<size_t>(place.frames)) {
    const MixtureSizes sizes = mixture_sizes(o, place.shape);
    for (const auto& [z, rank] : {std::pair("k", sizes.rank_k), std::pair("v", sizes.rank_v)})
      sides_.emplace_back(o, sizes, rank,
                          fmt::format("model.layers.{}.self_attn.mixture.{}.", layer_, z),
                          place.parameters);
    if (o.basis_source == "activations") plain_ = make_plain_key_values({}, type_, rope_);
    exchanges_ = o.theta_source == "prev_piece" && sides_[0].reads_pieces();
  }

  Sections payload(const KeyValueShape& s) const override {
    return calibrating_ ? plain_->payload(s) : sections(s, wire_);
  }
  Sections gradient(const KeyValueShape& s) const override { return sections(s, gradient_wire_); }
  Sections accumulator(const KeyValueShape& s) const override {
    return sections(s, statistics_of(type_));
  }
  bool splits_heads() const override { return false; }
  bool projects() const override { return absorbs_ && !calibrating_; }

  void before_encode(Context& ctx, Frame& frame, ContextLink& link, const SequenceLayout& layout,
                     const std::vector<OwnPiece>& pieces) override {
    if (calibrating_) return;
    auto& saved = saved_[static_cast<size_t>(frame.index)];
    saved.assign(pieces.size(), {});
    shard_ = link.shard();
    link.codec(Phase::encode, [&] {
      for (const OwnPiece& own : pieces) {
        const std::string key = fmt::format("{}.{}.{}.{}.{}", frame.copy, frame.step,
                                            frame.microbatch, own.piece.shard, own.piece.index);
        SavedPiece& s = of(saved, own.piece);
        if (const Tensor& x = own.pre.x; x.defined() && sides_[0].reads_pieces()) {
          s.mean = keep(ctx, frame).take({x.size(0), x.size(2)}, statistics_of(type_));
          token_mean(ctx, s.mean, x);
        }
        for (size_t z = 0; z < 2; ++z)
          sides_[z].summarise(ctx, keep(ctx, frame), s.sides[z], input_of(own.pre, s, z),
                              frame.training, key);
      }
    });
    if (exchanges_) pass_on(ctx, frame, link, layout, MessageKind::forward);
  }

  void before_encode_backward(Context& ctx, Frame& frame, ContextLink& link,
                              const SequenceLayout& layout,
                              const std::vector<OwnPiece>& pieces) override {
    auto& saved = saved_[static_cast<size_t>(frame.index)];
    link.codec(Phase::decode_grad, [&] {
      for (const OwnPiece& own : pieces)
        for (size_t z = 0; z < 2; ++z)
          sides_[z].angle_gradient(ctx, of(saved, own.piece).sides[z], own.accumulator[z],
                                   angles(own.accumulator, z));
    });
    if (exchanges_) pass_on(ctx, frame, link, layout, MessageKind::backward);
  }

  void encode(Context& ctx, Frame& frame, const Tensors& payload, const KeyValueSource& pre,
              const KeyValuePiece& piece) override {
    if (calibrating_) {
      STRAIT_CHECK(!frame.training, "bases are made of forward passes that do not train");
      sides_[0].calibrate(ctx, pre.k);
      sides_[1].calibrate(ctx, pre.v);
      return plain_->encode(ctx, frame, payload, pre, piece);
    }
    SavedPiece& s = of(saved_[static_cast<size_t>(frame.index)], piece);
    Arena& kept = keep(ctx, frame);
    if (exact_) {
      s.own = {kept.take(piece.shape.shape(), type_), kept.take(piece.shape.shape(), type_)};
      ctx.ops.cast(s.own.k, pre.k);
      ctx.ops.cast(s.own.v, pre.v);
      ctx.ops.rope(s.own.k, rope_->value, piece.positions, false);
      const DType sum = statistics_of(type_);
      if (frame.training)
        s.own_gradient = {kept.take(piece.shape.shape(), sum), kept.take(piece.shape.shape(), sum)};
    }
    for (size_t z = 0; z < 2; ++z)
      sides_[z].compress(ctx, kept, s.sides[z], payload[z], angles(payload, z), input_of(pre, s, z),
                         frame.training);
  }

  KeyValue decode(Context& ctx, Frame& frame, const Tensors& payload,
                  const KeyValuePiece& piece) override {
    if (calibrating_) return plain_->decode(ctx, frame, payload, piece);
    if (exact_ && piece.shard == shard_)
      return of(saved_[static_cast<size_t>(frame.index)], piece).own;
    const KeyValue kv{ctx.scratch.take(piece.shape.shape(), type_),
                      ctx.scratch.take(piece.shape.shape(), type_)};
    for (size_t z = 0; z < 2; ++z)
      sides_[z].expand(ctx, z == 0 ? kv.k : kv.v, payload[z], angles(payload, z));
    ctx.ops.rope(kv.k, rope_->value, piece.positions, false);
    return kv;
  }

  void decode_backward(Context& ctx, Frame& frame, const Tensors& accumulator,
                       const KeyValue& gradient, const Tensors& payload, const KeyValuePiece& piece,
                       bool accumulate) override {
    ctx.ops.rope(gradient.k, rope_->value, piece.positions, true);
    if (exact_ && piece.shard == shard_) {
      // No gradient of what travelled: it did not stand here.
      const KeyValue& own = of(saved_[static_cast<size_t>(frame.index)], piece).own_gradient;
      ctx.ops.cast(own.k, gradient.k);
      ctx.ops.cast(own.v, gradient.v);
      for (const Tensor& section : accumulator)
        if (!accumulate) ctx.ops.fill(section, 0);
      return;
    }
    for (size_t z = 0; z < 2; ++z)
      sides_[z].expand_backward(ctx, accumulator[z], angles(accumulator, z),
                                z == 0 ? gradient.k : gradient.v, payload[z], angles(payload, z),
                                accumulate);
  }

  void encode_backward(Context& ctx, Frame& frame, const KeyValueSource& dpre,
                       const Tensors& accumulator, const KeyValuePiece& piece) override {
    const SavedPiece& s = of(saved_[static_cast<size_t>(frame.index)], piece);
    if (dpre.x.defined()) {
      ArenaScope scope(ctx.scratch);
      const Tensor dx = ctx.scratch.take(dpre.x.shape, statistics_of(type_));
      for (size_t z = 0; z < 2; ++z)
        sides_[z].absorbed_backward(ctx, s.sides[z], dx, rows_of(dpre.qkv->grad, z), accumulator[z],
                                    z > 0);
      return ctx.ops.cast(dpre.x, dx);
    }
    for (size_t z = 0; z < 2; ++z) {
      ArenaScope scope(ctx.scratch);
      const Tensor dz = ctx.scratch.take(piece.shape.shape(), statistics_of(type_));
      sides_[z].compress_backward(ctx, s.sides[z], dz, accumulator[z]);
      if (exact_) ctx.ops.axpy(dz, 1.0, z == 0 ? s.own_gradient.k : s.own_gradient.v);
      ctx.ops.cast(z == 0 ? dpre.k : dpre.v, dz);
    }
  }

  bool wants_calibration() const override { return options_.basis_source == "activations"; }
  void calibrate(bool on) override { calibrating_ = on; }

  void begin(Context& ctx, ControlLink& link, Parameter& qkv) override {
    const int64_t rows = int64_t{shape_.kv_heads} * shape_.head_width, columns = qkv.shape[1],
                  first = int64_t{shape_.heads} * shape_.head_width;
    std::vector<double> weight = host_values(ctx.ops, qkv.master);
    for (int64_t z = 0; z < 2; ++z) {
      std::vector<double> part;
      if (!weight.empty()) {
        const auto from = weight.begin() + (first + z * rows) * columns;
        part.assign(from, from + rows * columns);
      }
      sides_[static_cast<size_t>(z)].begin(ctx, link, part, columns);
    }
    if (!options_.project_at_start || weight.empty()) return;
    fold_key_values(weight, options_, shape_, sides_[0].frames(ctx), sides_[1].frames(ctx));
    host_upload(ctx.ops, qkv.master, weight);
    if (qkv.value.dtype != qkv.master.dtype) ctx.ops.cast(qkv.value, qkv.master);
  }

  void end_synchronise(Context& ctx, ControlLink& link, const StepEnd& end) override {
    for (const SubspaceSide& side : sides_) side.end_synchronise(ctx, link, end);
  }

  Diagnosis diagnose(Context& ctx, const Frame& frame, const KeyValue& pre) override {
    Diagnosis both;
    for (size_t z = 0; z < 2; ++z) {
      std::vector<Tensor> t;
      for (const SavedPiece& piece : saved_[static_cast<size_t>(frame.index)])
        t.push_back(piece.sides[z].t);
      for (auto& entry :
           sides_[z].diagnose(ctx, z == 0 ? pre.k : pre.v, t, z == 0 ? "key" : "value"))
        both.push_back(std::move(entry));
    }
    return both;
  }

 private:
  struct SavedPiece {
    std::array<SubspaceSide::Saved, 2> sides;
    Tensor mean;                 // (B,C) S: of x, where angles are made of it
    KeyValue own, own_gradient;  // local_block exact: after RoPE, and the gradient before it
  };

  static SavedPiece& of(std::vector<SavedPiece>& saved, const KeyValuePiece& piece) {
    return saved.at(static_cast<size_t>(piece.index));
  }
  // Rows of the stacked projection (or its gradient) that make K, or V: (Hkv Dh, C).
  Tensor rows_of(const Tensor& qkv, size_t z) const {
    const int64_t rows = int64_t{shape_.kv_heads} * shape_.head_width;
    return qkv.slice(0, int64_t{shape_.heads} * shape_.head_width + static_cast<int64_t>(z) * rows,
                     rows);
  }
  SubspaceSide::Input input_of(const KeyValueSource& pre, const SavedPiece& saved, size_t z) const {
    if (!pre.x.defined()) return {.z = z == 0 ? pre.k : pre.v};
    return {.x = pre.x, .mean = saved.mean, .weight = rows_of(pre.qkv->value, z)};
  }
  // Where tensors go that are needed until the end of the forward pass, or, in training, of the backward.
  static Arena& keep(Context& ctx, Frame& frame) {
    return frame.training ? frame.arena : ctx.scratch;
  }
  // Those of K or V in a payload or its gradient: (G,B).
  static Tensor angles(const Tensors& sections, size_t z) {
    const Tensor& both = sections[2];
    return both.slice(0, static_cast<int64_t>(z), 1).view({both.size(1), both.size(2)});
  }

  Sections sections(const KeyValueShape& s, DType coordinates) const {
    const int64_t groups = sides_[0].groups();
    return {{coordinates, {groups, s.sequences, s.tokens, sides_[0].rank()}},
            {coordinates, {groups, s.sequences, s.tokens, sides_[1].rank()}},
            {statistics_of(type_), {2, groups, s.sequences}}};
  }

  // forward: what the head made of each own piece goes to the owner of the next one, as its t; backward: dt of each own piece to the owner
  // of the one before, as the gradient of what its head made. The first piece has t = 0; nothing has read the last one.
  void pass_on(Context& ctx, Frame& frame, ContextLink& link, const SequenceLayout& layout,
               MessageKind kind) {
    auto& saved = saved_[static_cast<size_t>(frame.index)];
    const bool forward = kind == MessageKind::forward;
    const auto outgoing = [&](SavedPiece& p, size_t z) {
      return forward ? p.sides[z].head : p.sides[z].dt;
    };
    const auto incoming = [&](SavedPiece& p, size_t z) {
      return forward ? p.sides[z].t : p.sides[z].dhead;
    };
    const auto tag = [&](int piece) {
      return Tag{kind, frame.microbatch, -(1 + 2 * layer_ + piece)};  // piece: of the receiver
    };
    const Tensor like = saved[0].sides[0].t;
    const Sections sections{{like.dtype, {2, like.size(0), like.size(1)}}};
    const auto part = [&](const Message& m, size_t z) { return angles({{}, {}, m.section(0)}, z); };
    const int pieces = layout.pieces();
    for (int piece = 0; piece < pieces; ++piece) {
      const auto to = layout.neighbour(link.shard(), piece, forward ? 1 : -1);
      if (!to) continue;
      SavedPiece& own = saved[static_cast<size_t>(piece)];
      if (to->shard == link.shard()) {
        for (size_t z = 0; z < 2; ++z)
          ctx.ops.cast(incoming(saved[static_cast<size_t>(to->piece)], z), outgoing(own, z));
        continue;
      }
      Message message(link.pool(), ctx.ops, sections);
      for (size_t z = 0; z < 2; ++z) ctx.ops.cast(part(message, z), outgoing(own, z));
      link.send(to->shard, tag(to->piece), std::move(message));
    }
    for (int piece = 0; piece < pieces; ++piece) {
      const auto from = layout.neighbour(link.shard(), piece, forward ? -1 : 1);
      SavedPiece& own = saved[static_cast<size_t>(piece)];
      if (from && from->shard == link.shard()) continue;
      if (!from) {
        for (size_t z = 0; z < 2; ++z) ctx.ops.fill(incoming(own, z), 0);
        continue;
      }
      const Message message = link.receive(from->shard, tag(piece));
      for (size_t z = 0; z < 2; ++z) ctx.ops.cast(incoming(own, z), part(message, z));
    }
  }

  MixtureOptions options_;
  ModelShape shape_;
  int layer_;
  DType type_, wire_, gradient_wire_;
  bool exact_, absorbs_, exchanges_ = false, calibrating_ = false;
  const Buffer* rope_;
  std::unique_ptr<KeyValueCodec> plain_;  // for calibration
  int shard_ = 0;
  std::vector<SubspaceSide> sides_;             // of K, of V
  std::vector<std::vector<SavedPiece>> saved_;  // by frame and piece
};

}  // namespace

std::unique_ptr<KeyValueCodec> make_mixture_of_subspaces(const MixtureOptions& options,
                                                         const MixturePlace& place) {
  validate(options, place.shape, place.layout, place.shards, place.parameters.dtype());
  return std::make_unique<MixtureOfSubspaces>(options, place);
}

void fold_key_values(std::vector<double>& qkv, const MixtureOptions& options,
                     const ModelShape& shape, const std::vector<double>& frames_k,
                     const std::vector<double>& frames_v) {
  const MixtureSizes sizes = mixture_sizes(options, shape);
  const int64_t w = sizes.width,
                all = (shape.heads + 2 * int64_t{shape.kv_heads}) * shape.head_width,
                columns = static_cast<int64_t>(qkv.size()) / all;
  for (int z = 0; z < 2; ++z) {
    const std::vector<double>& frames = z == 0 ? frames_k : frames_v;
    const int64_t r = z == 0 ? sizes.rank_k : sizes.rank_v,
                  of_group = static_cast<int64_t>(frames.size()) / sizes.groups;
    for (int64_t g = 0; g < sizes.groups; ++g) {
      const double* u = frames.data() + g * of_group;  // Ubar (w,r) is the first
      double* rows =
          qkv.data() +
          ((shape.heads + z * int64_t{shape.kv_heads}) * shape.head_width + g * w) * columns;
      std::vector<double> inside(static_cast<size_t>(r * columns), 0.0);  // Ubar^T W
      for (int64_t i = 0; i < w; ++i)
        for (int64_t j = 0; j < r; ++j)
          for (int64_t c = 0; c < columns; ++c)
            inside[static_cast<size_t>(j * columns + c)] += u[i * r + j] * rows[i * columns + c];
      for (int64_t i = 0; i < w; ++i)
        for (int64_t c = 0; c < columns; ++c) {
          double sum = 0;
          for (int64_t j = 0; j < r; ++j)
            sum += u[i * r + j] * inside[static_cast<size_t>(j * columns + c)];
          rows[i * columns + c] = sum;
        }
    }
  }
}

}  // namespace strait
