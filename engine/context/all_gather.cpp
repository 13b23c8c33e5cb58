#include "engine/context/all_gather.h"

#include <utility>

namespace strait {

using record::MessageKind;
using Stream = ContextTags::Stream;

struct AllGatherAttention::Call {
  Context& ctx;
  Frame& frame;
  ContextLink& link;
  MessageKind kind;
  int64_t sequences, head_width;
  int shard() const { return link.shard(); }
  int shards() const { return link.shards(); }
  // The one `distance` places further along, or back.
  int after(int distance) const { return (shard() + distance) % shards(); }
  int before(int distance) const { return (shard() + shards() - distance) % shards(); }
};

AllGatherAttention::AllGatherAttention(const ContextOptions& options, PieceSetting setting,
                                       int layer, int frames, int kv_heads,
                                       std::unique_ptr<KeyValueCodec> codec)
    : options_(options),
      setting_(std::move(setting)),
      kv_heads_(kv_heads),
      group_heads_(options.kv_head_group > 0 ? options.kv_head_group : kv_heads),
      tags_(layer, kv_heads / group_heads_ * setting_.layout.shards()),
      codec_(std::move(codec)),
      saved_(static_cast<size_t>(frames)) {}

Tensor AllGatherAttention::heads_of(const Tensor& x, int group) const {
  const int64_t heads = x.size(2) / groups();
  return x.slice(2, group * heads, heads);
}

KeyValueSource AllGatherAttention::heads_of(const KeyValueSource& pre, int group) const {
  if (pre.x.defined()) return pre;  // of all key heads at once
  return {heads_of(pre.k, group), heads_of(pre.v, group)};
}

std::vector<int> AllGatherAttention::pieces_for(int q_shard, int k_shard) const {
  return setting_.layout.pieces_needed(q_shard, k_shard,
                                       setting_.causal && options_.kv_send == KeyValueSend::needed);
}

KeyValueFlow AllGatherAttention::flow(Call& call, int group) const {
  const KeyValueShape piece{call.sequences, setting_.layout.piece_tokens(), group_heads_,
                            call.head_width};
  return {call.ctx, call.frame, call.link, setting_, *codec_, piece, group * group_heads_};
}

Tag AllGatherAttention::tag(const Call& call, Stream stream, int group, int distance) const {
  return tags_(call.frame, call.kind, stream, group * setting_.layout.shards() + distance);
}

void AllGatherAttention::send_to_all(Call& call, int group, const PieceMessage& payload) const {
  KeyValueFlow kv = flow(call, group);
  for (int d = 1; d < call.shards(); ++d)
    kv.send_payload(call.after(d), tag(call, Stream::payload, group, d), payload,
                    pieces_for(call.after(d), call.shard()));
}

PieceMessage AllGatherAttention::receive(Call& call, int group, int distance) const {
  return flow(call, group)
      .receive_payload(call.before(distance), tag(call, Stream::payload, group, distance),
                       pieces_for(call.shard(), call.before(distance)));
}

void AllGatherAttention::forward(Context& ctx, Frame& frame, ContextLink& link, Tensor o, Tensor q,
                                 const KeyValueSource& pre) {
  Call call{ctx, frame, link, MessageKind::forward, q.size(0), q.size(3)};
  ArenaScope scope(ctx.scratch);
  Arena& kept = frame.training ? frame.arena : ctx.scratch;
  std::vector<Saved> all(static_cast<size_t>(groups()));
  const auto encode = [&](int group) {
    Saved& s = all[static_cast<size_t>(group)];
    s.payloads.resize(static_cast<size_t>(link.shards()));
    PieceMessage& own = s.payloads[static_cast<size_t>(link.shard())];
    own = flow(call, group).encode(heads_of(pre, group));
    send_to_all(call, group, own);
  };
  encode(0);
  for (int group = 0; group < groups(); ++group) {
    if (group + 1 < groups()) encode(group + 1);
    Saved& s = all[static_cast<size_t>(group)];
    s.q = heads_of(q, group);
    s.o = heads_of(o, group);
    for (int piece = 0; piece < setting_.layout.pieces(); ++piece)
      s.lse.push_back(kept.take({q.size(0), s.q.size(2), setting_.layout.piece_tokens()},
                                statistics_of(q.dtype)));
    forward_group(call, group, s);
  }
  if (frame.training) saved_[static_cast<size_t>(frame.index)] = std::move(all);
}

void AllGatherAttention::forward_group(Call& call, int group, Saved& s) const {
  ArenaScope scope(call.ctx.scratch);
  KeyValueFlow kv = flow(call, group);
  PieceForward queries(call.ctx, call.frame, setting_, call.shard(), s.o, s.lse, s.q);
  kv.attend(queries, call.shard(), s.payloads[static_cast<size_t>(call.shard())]);
  for (int d = 1; d < call.shards(); ++d) {
    PieceMessage block = receive(call, group, d);
    kv.attend(queries, call.before(d), block);
    if (options_.keep_gathered_kv)
      s.payloads[static_cast<size_t>(call.before(d))] = std::move(block);
  }
  queries.finish(call.ctx);
}

void AllGatherAttention::backward(Context& ctx, Frame& frame, ContextLink& link, Tensor dq,
                                  const KeyValueSource& dpre, Tensor dout) {
  // What was kept is let go of here.
  const std::vector<Saved> all = std::exchange(saved_[static_cast<size_t>(frame.index)], {});
  Call call{ctx, frame, link, MessageKind::backward, dq.size(0), dq.size(3)};
  const auto send_again = [&](int group) {
    if (!options_.keep_gathered_kv)
      send_to_all(call, group,
                  all[static_cast<size_t>(group)].payloads[static_cast<size_t>(link.shard())]);
  };
  send_again(0);
  for (int group = 0; group < groups(); ++group) {
    if (group + 1 < groups()) send_again(group + 1);
    backward_group(call, group, all[static_cast<size_t>(group)], heads_of(dq, group),
                   heads_of(dpre, group), heads_of(dout, group));
  }
}

void AllGatherAttention::backward_group(Call& call, int group, const Saved& s, Tensor dq,
                                        const KeyValueSource& dpre, Tensor dout) const {
  ArenaScope scope(call.ctx.scratch);
  KeyValueFlow kv = flow(call, group);
  PieceBackward queries(call.ctx, call.frame, setting_, call.shard(), dq, dout, s.q, s.o, s.lse);
  for (int d = 1; d < call.shards(); ++d) {
    const int owner = call.before(d);
    const std::vector<int> pieces = pieces_for(call.shard(), owner);
    if (pieces.empty()) continue;
    const PieceMessage block = options_.keep_gathered_kv ? s.payloads[static_cast<size_t>(owner)]
                                                         : receive(call, group, d);
    PayloadGradient gradient = kv.attend_backward(queries, owner, block, pieces);
    kv.send_gradient(owner, tag(call, Stream::gradient, group, d), gradient);
  }
  PayloadGradient gradient = kv.attend_backward(
      queries, call.shard(), s.payloads[static_cast<size_t>(call.shard())], kv.all_pieces());
  for (int d = 1; d < call.shards(); ++d) {
    const int from = call.after(d);
    kv.add(gradient, kv.receive_gradient(from, tag(call, Stream::gradient, group, d),
                                         pieces_for(from, call.shard())));
  }
  queries.finish(call.ctx);
  kv.encode_backward(dpre, gradient);
}

}  // namespace strait
