// Heads for tokens (specs/context_parallelism.md 7, 8): the ranks of a group of `degree` give each other their tokens of one group
// of heads each, so that every rank has the tokens of the whole group and H / degree heads, compute there with another context attention
// over the groups, and exchange back. With one group this is DeepSpeed-Ulysses, with several the hybrid.
//
//   forward    a rank sends each other one of its group [q | k | v] of that one's heads, and receives o of its own tokens
//   backward   the same with dout, and with [dq | dk | dv]
//
// With Hkv < degree every key head is sent to degree / Hkv ranks, and its gradient is the sum of theirs, in rank order, in S. Keys
// travel before RoPE: what they become afterwards does not depend on where.
//
// Ranks of one group are neighbours: rank = group * degree + place. Tokens of a group stand in rank order after the exchange, which is the
// order of the layout (token_layout()).
#pragma once

#include <memory>
#include <vector>

#include "engine/context/context_attention.h"
#include "engine/context/key_value_flow.h"

namespace strait {

class HeadExchangeAttention final : public ContextAttention {
 public:
  // `inner`: over the groups; for H / degree heads and max(Hkv / degree, 1) key heads.
  HeadExchangeAttention(int degree, int layer, std::unique_ptr<ContextAttention> inner);
  void forward(Context& ctx, Frame& frame, ContextLink& link, Tensor o, Tensor q,
               const KeyValueSource& pre) override;
  void backward(Context& ctx, Frame& frame, ContextLink& link, Tensor dq,
                const KeyValueSource& dpre, Tensor dout) override;
  KeyValueCodec& codec() override { return inner_->codec(); }

 private:
  // The link, seen from this rank's place in its group.
  struct Group;
  // x (B, n_i, heads, Dh) of own tokens and all heads -> (B, degree n_i, own heads, Dh); one message a rank for all of `x`.
  void to_heads(Context& ctx, const Tag& tag, Group& group, const std::vector<Tensor>& gathered,
                const std::vector<Tensor>& x) const;
  // What the other ranks of the group computed with their heads of this rank's tokens, by place; the entry of this rank stays empty.
  std::vector<Message> to_tokens(Context& ctx, const Tag& tag, Group& group,
                                 const std::vector<Tensor>& gathered) const;
  Tensor heads_of(const Tensor& x, int place) const;
  Tensor tokens_of(const Tensor& gathered, int place) const;
  Tensor gathered_like(Arena& arena, const Tensor& x) const;
  void take_back(Context& ctx, Tensor x, const std::vector<Tensor>& parts) const;

  int degree_;
  ContextTags tags_;
  std::unique_ptr<ContextAttention> inner_;
};

}  // namespace strait
