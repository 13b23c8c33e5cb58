#include "engine/context/ring.h"

#include <utility>

namespace strait {

using record::MessageKind;
using Stream = ContextTags::Stream;

RingAttention::RingAttention(const ContextOptions& options, PieceSetting setting, int layer,
                             int frames, int kv_heads, std::unique_ptr<KeyValueCodec> codec)
    : options_(options),
      setting_(std::move(setting)),
      kv_heads_(kv_heads),
      tags_(layer, setting_.layout.shards() + 1),
      codec_(std::move(codec)),
      saved_(static_cast<size_t>(frames)) {}

KeyValueFlow RingAttention::flow(Context& ctx, Frame& frame, ContextLink& link, const Saved& s) {
  const KeyValueShape piece{s.q.size(0), setting_.layout.piece_tokens(), kv_heads_, s.q.size(3)};
  return {ctx, frame, link, setting_, *codec_, piece, 0};
}

std::vector<int> RingAttention::travelling(int shard, int hop) const {
  const int shards = setting_.layout.shards();
  std::vector<int> pieces;
  for (int piece = 0; piece < setting_.layout.pieces(); ++piece) {
    bool needed = options_.kv_send == KeyValueSend::all;
    for (int later = hop; later < shards; ++later)
      needed =
          needed || setting_.layout.needs((shard + later) % shards, shard, piece, setting_.causal);
    if (needed) pieces.push_back(piece);
  }
  return pieces;
}

void RingAttention::forward(Context& ctx, Frame& frame, ContextLink& link, Tensor o, Tensor q,
                            const KeyValueSource& pre) {
  const int shards = link.shards(), i = link.shard();
  const int next = (i + 1) % shards, previous = (i + shards - 1) % shards;
  Saved s{q, o, {}, {}};
  ArenaScope scope(ctx.scratch);
  Arena& kept = frame.training ? frame.arena : ctx.scratch;
  for (int piece = 0; piece < setting_.layout.pieces(); ++piece)
    s.lse.push_back(
        kept.take({q.size(0), q.size(2), setting_.layout.piece_tokens()}, statistics_of(q.dtype)));
  KeyValueFlow kv = flow(ctx, frame, link, s);
  PieceMessage block = s.payload = kv.encode(pre);
  PieceForward queries(ctx, frame, setting_, i, o, s.lse, q);
  for (int step = 0; step < shards; ++step) {
    const int shard = (i + shards - step) % shards;
    const Tag tag = tags_(frame, MessageKind::forward, Stream::payload, step);
    const bool more = step + 1 < shards;
    if (more) kv.send_payload(next, tag, block, travelling(shard, step + 1));
    kv.attend(queries, shard, block);
    if (more)
      block =
          kv.receive_payload(previous, tag, travelling((shard + shards - 1) % shards, step + 1));
  }
  queries.finish(ctx);
  if (!frame.training) return;
  if (options_.bwd_schedule == RingBackward::reverse) s.payload = std::move(block);
  saved_[static_cast<size_t>(frame.index)] = std::move(s);
}

void RingAttention::backward(Context& ctx, Frame& frame, ContextLink& link, Tensor dq,
                             const KeyValueSource& dpre, Tensor dout) {
  // What was kept is let go of here.
  Saved s = std::exchange(saved_[static_cast<size_t>(frame.index)], {});
  ArenaScope scope(ctx.scratch);
  PieceBackward queries(ctx, frame, setting_, link.shard(), dq, dout, s.q, s.o, s.lse);
  if (options_.bwd_schedule == RingBackward::home)
    backward_home(ctx, frame, link, s, queries, dpre);
  else
    backward_reverse(ctx, frame, link, s, queries, dpre);
  queries.finish(ctx);
}

void RingAttention::backward_home(Context& ctx, Frame& frame, ContextLink& link, Saved& s,
                                  PieceBackward& queries, const KeyValueSource& dpre) {
  const int shards = link.shards(), i = link.shard();
  const int next = (i + 1) % shards, previous = (i + shards - 1) % shards;
  const auto tag = [&](Stream stream, int hop) {
    return tags_(frame, MessageKind::backward, stream, hop);
  };
  KeyValueFlow kv = flow(ctx, frame, link, s);
  const std::vector<int> all = kv.all_pieces();
  PieceMessage block = std::move(s.payload);
  PayloadGradient gradient;
  for (int step = 0; step < shards; ++step) {
    const int shard = (i + shards - step) % shards;
    const bool more = step + 1 < shards;
    if (more) kv.send_payload(next, tag(Stream::payload, step), block, travelling(shard, step + 1));
    gradient = kv.attend_backward(queries, shard, block, all);
    if (step > 0) kv.add(gradient, kv.receive_gradient(previous, tag(Stream::gradient, step), all));
    if (shards > 1) kv.send_gradient(next, tag(Stream::gradient, step + 1), gradient);
    if (more)
      block = kv.receive_payload(previous, tag(Stream::payload, step),
                                 travelling((shard + shards - 1) % shards, step + 1));
  }
  if (shards > 1)
    gradient = kv.sum_of(kv.receive_gradient(previous, tag(Stream::gradient, shards), all));
  kv.encode_backward(dpre, gradient);
}

void RingAttention::backward_reverse(Context& ctx, Frame& frame, ContextLink& link, Saved& s,
                                     PieceBackward& queries, const KeyValueSource& dpre) {
  const int shards = link.shards(), i = link.shard();
  const int next = (i + 1) % shards, previous = (i + shards - 1) % shards;
  const auto tag = [&](Stream stream, int hop) {
    return tags_(frame, MessageKind::backward, stream, hop);
  };
  KeyValueFlow kv = flow(ctx, frame, link, s);
  const std::vector<int> all = kv.all_pieces();
  PieceMessage block = std::move(s.payload);
  PayloadGradient gradient;
  for (int step = 0; step < shards; ++step) {
    const int shard = (i + 1 + step) % shards;
    const bool more = step + 1 < shards;
    if (more) kv.send_payload(previous, tag(Stream::payload, step), block, all);
    gradient = kv.attend_backward(queries, shard, block, all);
    if (step > 0) kv.add(gradient, kv.receive_gradient(next, tag(Stream::gradient, step), all));
    if (!more) break;
    kv.send_gradient(previous, tag(Stream::gradient, step + 1), gradient);
    block = kv.receive_payload(next, tag(Stream::payload, step), all);
  }
  kv.encode_backward(dpre, gradient);
}

}  // namespace strait
