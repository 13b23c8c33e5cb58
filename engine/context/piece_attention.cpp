#include "engine/context/piece_attention.h"

#include <utility>

namespace strait {
namespace {

AttentionMask mask_of(Context& ctx, const Frame& frame, const PieceSetting& setting, int q_shard,
                      int q_piece, const Tensor& q_document, int k_shard, int k_piece,
                      PieceRelation relation) {
  return {setting.positions_of(q_shard, q_piece), setting.positions_of(k_shard, k_piece),
          q_document, setting.documents_of(ctx, frame, k_shard, k_piece),
          relation == PieceRelation::masked};
}

}  // namespace

Tensor PieceSetting::positions_of(int shard, int piece) const {
  const int64_t tokens = layout.piece_tokens();
  return positions->value.slice(0, (int64_t{shard} * layout.pieces() + piece) * tokens, tokens);
}

Tensor PieceSetting::documents_of(Context& ctx, const Frame& frame, int shard, int piece) const {
  if (!frame.documents.defined()) return {};
  const int64_t tokens = layout.piece_tokens();
  Tensor of_piece = ctx.scratch.take({frame.documents.size(0), tokens}, DType::i32);
  ctx.ops.cast(of_piece, frame.documents.slice(
                             1, (int64_t{shard} * layout.pieces() + piece) * tokens, tokens));
  return of_piece;
}

Tensor PieceSetting::piece_of(const Tensor& x, int piece) const {
  return x.slice(1, piece * layout.piece_tokens(), layout.piece_tokens());
}

PieceForward::PieceForward(Context& ctx, const Frame& frame, const PieceSetting& setting, int shard,
                           Tensor o, std::vector<Tensor> lse, Tensor q)
    : setting_(setting), shard_(shard) {
  const DType s = statistics_of(q.dtype);
  for (int piece = 0; piece < setting.layout.pieces(); ++piece) {
    Queries queries;
    queries.q = setting.piece_of(q, piece);
    queries.lse = std::move(lse.at(static_cast<size_t>(piece)));
    queries.documents = setting.documents_of(ctx, frame, shard, piece);
    queries.o = setting.piece_of(o, piece);
    if (o.dtype != s) {
      queries.result = queries.o;
      queries.o = ctx.scratch.take(queries.q.shape, s);
    }
    pieces_.push_back(queries);
  }
}

void PieceForward::add(Context& ctx, const Frame& frame, int k_shard, int k_piece,
                       const KeyValue& kv) {
  for (int piece = 0; piece < setting_.layout.pieces(); ++piece) {
    const PieceRelation relation =
        setting_.layout.relation(shard_, piece, k_shard, k_piece, setting_.causal);
    if (relation == PieceRelation::nothing) continue;
    ArenaScope scope(ctx.scratch);
    Queries& queries = pieces_[static_cast<size_t>(piece)];
    const AttentionMask mask =
        mask_of(ctx, frame, setting_, shard_, piece, queries.documents, k_shard, k_piece, relation);
    if (!std::exchange(queries.started, true)) {
      ctx.ops.attention_forward(queries.o, queries.lse, queries.q, kv.k, kv.v, mask,
                                setting_.scale);
      continue;
    }
    Tensor o = ctx.scratch.take(queries.q.shape, queries.o.dtype),
           lse = ctx.scratch.take(queries.lse.shape, queries.lse.dtype);
    ctx.ops.attention_forward(o, lse, queries.q, kv.k, kv.v, mask, setting_.scale);
    ctx.ops.attention_merge(queries.o, queries.lse, o, lse);
  }
}

void PieceForward::finish(Context& ctx) {
  for (Queries& queries : pieces_) {
    STRAIT_CHECK(queries.started, "queries that met no keys");
    if (queries.result.defined()) ctx.ops.cast(queries.result, queries.o);
  }
}

PieceBackward::PieceBackward(Context& ctx, const Frame& frame, const PieceSetting& setting,
                             int shard, Tensor dq, Tensor dout, Tensor q, Tensor o,
                             const std::vector<Tensor>& lse)
    : setting_(setting), shard_(shard) {
  const DType s = statistics_of(q.dtype);
  for (int piece = 0; piece < setting.layout.pieces(); ++piece) {
    Queries queries;
    queries.q = setting.piece_of(q, piece);
    queries.dout = setting.piece_of(dout, piece);
    queries.lse = lse.at(static_cast<size_t>(piece));
    queries.delta = ctx.scratch.take(queries.lse.shape, s);
    queries.documents = setting.documents_of(ctx, frame, shard, piece);
    queries.dq = ctx.scratch.take(queries.q.shape, s);
    queries.result = setting.piece_of(dq, piece);
    ctx.ops.attention_delta(queries.delta, queries.dout, setting.piece_of(o, piece));
    pieces_.push_back(queries);
  }
}

bool PieceBackward::add(Context& ctx, const Frame& frame, int k_shard, int k_piece,
                        const KeyValue& kv, const KeyValue& gradient) {
  bool touched = false;
  for (int piece = 0; piece < setting_.layout.pieces(); ++piece) {
    const PieceRelation relation =
        setting_.layout.relation(shard_, piece, k_shard, k_piece, setting_.causal);
    if (relation == PieceRelation::nothing) continue;
    ArenaScope scope(ctx.scratch);
    Queries& queries = pieces_[static_cast<size_t>(piece)];
    const AttentionMask mask =
        mask_of(ctx, frame, setting_, shard_, piece, queries.documents, k_shard, k_piece, relation);
    // The op adds to all three or to none: what begins only now while the others go on begins at zero.
    const bool accumulate = queries.started || touched;
    if (accumulate && !queries.started) ctx.ops.fill(queries.dq, 0);
    if (accumulate && !touched) {
      ctx.ops.fill(gradient.k, 0);
      ctx.ops.fill(gradient.v, 0);
    }
    ctx.ops.attention_backward(queries.dq, gradient.k, gradient.v, queries.dout, queries.q, kv.k,
                               kv.v, queries.lse, queries.delta, mask, setting_.scale, accumulate);
    queries.started = touched = true;
  }
  return touched;
}

void PieceBackward::finish(Context& ctx) {
  for (Queries& queries : pieces_) {
    STRAIT_CHECK(queries.started, "queries that met no keys");
    ctx.ops.cast(queries.result, queries.dq);
  }
}

}  // namespace strait
