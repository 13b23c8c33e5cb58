#include "engine/context/head_exchange.h"

#include <algorithm>
#include <utility>

namespace strait {

using record::MessageKind;
using Stream = ContextTags::Stream;

struct HeadExchangeAttention::Group {
  ContextLink& link;
  int degree;
  int place() const { return link.shard() % degree; }
  int rank(int place) const { return link.shard() - link.shard() % degree + place; }
  int after(int distance) const { return (place() + distance) % degree; }
  int before(int distance) const { return (place() + degree - distance) % degree; }
};

HeadExchangeAttention::HeadExchangeAttention(int degree, int layer,
                                             std::unique_ptr<ContextAttention> inner)
    : degree_(degree), tags_(layer, 1), inner_(std::move(inner)) {}

// The heads that `place` computes with: one of its own where there are fewer key heads than ranks.
Tensor HeadExchangeAttention::heads_of(const Tensor& x, int place) const {
  const int64_t each = std::max<int64_t>(x.size(2) / degree_, 1);
  return x.slice(2, place * x.size(2) / degree_, each);
}

Tensor HeadExchangeAttention::tokens_of(const Tensor& gathered, int place) const {
  const int64_t tokens = gathered.size(1) / degree_;
  return gathered.slice(1, place * tokens, tokens);
}

Tensor HeadExchangeAttention::gathered_like(Arena& arena, const Tensor& x) const {
  return arena.take(
      {x.size(0), degree_ * x.size(1), std::max<int64_t>(x.size(2) / degree_, 1), x.size(3)},
      x.dtype);
}

void HeadExchangeAttention::to_heads(Context& ctx, const Tag& tag, Group& group,
                                     const std::vector<Tensor>& gathered,
                                     const std::vector<Tensor>& x) const {
  Sections sections;
  for (const Tensor& t : x) sections.push_back({t.dtype, heads_of(t, 0).shape});
  for (int d = 1; d < degree_; ++d) {
    const int to = group.after(d);
    Message message(group.link.pool(), ctx.ops, sections);
    for (size_t i = 0; i < x.size(); ++i) ctx.ops.cast(message.section(i), heads_of(x[i], to));
    message.dense = message.bytes();
    group.link.send(group.rank(to), tag, std::move(message));
  }
  for (size_t i = 0; i < x.size(); ++i)
    ctx.ops.cast(tokens_of(gathered[i], group.place()), heads_of(x[i], group.place()));
  for (int d = 1; d < degree_; ++d) {
    const int from = group.before(d);
    const Message message = group.link.receive(group.rank(from), tag);
    for (size_t i = 0; i < x.size(); ++i)
      ctx.ops.cast(tokens_of(gathered[i], from), message.section(i));
  }
}

std::vector<Message> HeadExchangeAttention::to_tokens(Context& ctx, const Tag& tag, Group& group,
                                                      const std::vector<Tensor>& gathered) const {
  Sections sections;
  for (const Tensor& t : gathered) sections.push_back({t.dtype, tokens_of(t, 0).shape});
  for (int d = 1; d < degree_; ++d) {
    const int to = group.after(d);
    Message message(group.link.pool(), ctx.ops, sections);
    for (size_t i = 0; i < gathered.size(); ++i)
      ctx.ops.cast(message.section(i), tokens_of(gathered[i], to));
    message.dense = message.bytes();
    group.link.send(group.rank(to), tag, std::move(message));
  }
  std::vector<Message> received(static_cast<size_t>(degree_));
  for (int d = 1; d < degree_; ++d) {
    const int from = group.before(d);
    received[static_cast<size_t>(from)] = group.link.receive(group.rank(from), tag);
  }
  return received;
}

// x (B, n_i, heads, Dh) from each rank's part of its heads; of replicas the sum, in rank order.
void HeadExchangeAttention::take_back(Context& ctx, Tensor x,
                                      const std::vector<Tensor>& parts) const {
  const int64_t replicas = std::max<int64_t>(degree_ / x.size(2), 1);
  for (int place = 0; place < degree_; place += static_cast<int>(replicas)) {
    if (replicas == 1) {
      ctx.ops.cast(heads_of(x, place), parts[static_cast<size_t>(place)]);
      continue;
    }
    ArenaScope scope(ctx.scratch);
    const Tensor first = parts[static_cast<size_t>(place)];
    Tensor sum = ctx.scratch.take(first.shape, statistics_of(x.dtype)),
           part = ctx.scratch.take(first.shape, x.dtype);
    ctx.ops.cast(sum, first);
    for (int64_t r = 1; r < replicas; ++r) {
      ctx.ops.cast(part, parts[static_cast<size_t>(place + r)]);  // one of them may be strided
      ctx.ops.axpy(sum, 1.0, part);
    }
    ctx.ops.cast(heads_of(x, place), sum);
  }
}

void HeadExchangeAttention::forward(Context& ctx, Frame& frame, ContextLink& link, Tensor o,
                                    Tensor q, const KeyValueSource& pre) {
  Group group{link, degree_};
  ContextSubgroup groups(link, group.place(), degree_, link.shards() / degree_);
  ArenaScope scope(ctx.scratch);
  Arena& kept = frame.training ? frame.arena : ctx.scratch;
  Tensor q_all = gathered_like(kept, q), o_all = gathered_like(kept, o);
  KeyValue all{gathered_like(ctx.scratch, pre.k), gathered_like(ctx.scratch, pre.v)};
  to_heads(ctx, tags_(frame, MessageKind::forward, Stream::heads, 0), group, {q_all, all.k, all.v},
           {q, pre.k, pre.v});
  inner_->forward(ctx, frame, groups, o_all, q_all, {all.k, all.v});
  const std::vector<Message> others =
      to_tokens(ctx, tags_(frame, MessageKind::forward, Stream::tokens, 0), group, {o_all});
  std::vector<Tensor> parts;
  for (int place = 0; place < degree_; ++place)
    parts.push_back(place == group.place() ? tokens_of(o_all, place)
                                           : others[static_cast<size_t>(place)].section(0));
  take_back(ctx, o, parts);
}

void HeadExchangeAttention::backward(Context& ctx, Frame& frame, ContextLink& link, Tensor dq,
                                     const KeyValueSource& dpre, Tensor dout) {
  Group group{link, degree_};
  ContextSubgroup groups(link, group.place(), degree_, link.shards() / degree_);
  ArenaScope scope(ctx.scratch);
  Tensor dout_all = gathered_like(ctx.scratch, dout);
  to_heads(ctx, tags_(frame, MessageKind::backward, Stream::heads, 0), group, {dout_all}, {dout});
  const std::vector<Tensor> all{gathered_like(ctx.scratch, dq), gathered_like(ctx.scratch, dpre.k),
                                gathered_like(ctx.scratch, dpre.v)};
  inner_->backward(ctx, frame, groups, all[0], {all[1], all[2]}, dout_all);
  const std::vector<Message> others =
      to_tokens(ctx, tags_(frame, MessageKind::backward, Stream::tokens, 0), group, all);
  const std::vector<Tensor> results{dq, dpre.k, dpre.v};
  for (size_t i = 0; i < results.size(); ++i) {
    std::vector<Tensor> parts;
    for (int place = 0; place < degree_; ++place)
      parts.push_back(place == group.place() ? tokens_of(all[i], place)
                                             : others[static_cast<size_t>(place)].section(i));
    take_back(ctx, results[i], parts);
  }
}

}  // namespace strait
