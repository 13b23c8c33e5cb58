// All-gather attention (specs/context_parallelism.md 6): every rank sends its payload to all others, rank i to i + 1 first, computes
// with its own meanwhile, and then with the others' as they come. Backward: the same again (unless the payloads were kept), but
// remote blocks first, each gradient sent to its owner as soon as it is there, the own block last; the owner sums in S, in a fixed order.
//
// With kv_head_group the key heads go one group after the other, the next group's payload being sent before this one's is used, so
// that no more than two groups' payloads are in flight. With kv_send needed, a rank sends each other one the pieces that its queries may see.
#pragma once

#include <memory>
#include <vector>

#include "engine/context/context_attention.h"
#include "engine/context/key_value_flow.h"

namespace strait {

class AllGatherAttention final : public ContextAttention {
 public:
  // `kv_heads`: of the model.
  AllGatherAttention(const ContextOptions& options, PieceSetting setting, int layer, int frames,
                     int kv_heads, std::unique_ptr<KeyValueCodec> codec);
  void forward(Context& ctx, Frame& frame, ContextLink& link, Tensor o, Tensor q,
               const KeyValueSource& pre) override;
  void backward(Context& ctx, Frame& frame, ContextLink& link, Tensor dq,
                const KeyValueSource& dpre, Tensor dout) override;
  KeyValueCodec& codec() override { return *codec_; }

 private:
  // Of one group of heads and one microbatch.
  struct Saved {
    Tensor q, o;
    std::vector<Tensor> lse;
    std::vector<PieceMessage> payloads;  // by shard: the own one; all of them where they are kept
  };
  struct Call;  // one forward or backward

  int groups() const { return kv_heads_ / group_heads_; }
  // Heads of group `group` of a tensor with `heads_each` for each key head.
  Tensor heads_of(const Tensor& x, int group) const;
  KeyValueSource heads_of(const KeyValueSource& pre, int group) const;
  std::vector<int> pieces_for(int q_shard, int k_shard) const;
  KeyValueFlow flow(Call& call, int group) const;
  Tag tag(const Call& call, ContextTags::Stream stream, int group, int distance) const;
  void send_to_all(Call& call, int group, const PieceMessage& payload) const;
  PieceMessage receive(Call& call, int group, int distance) const;
  void forward_group(Call& call, int group, Saved& s) const;
  void backward_group(Call& call, int group, const Saved& s, Tensor dq, const KeyValueSource& dpre,
                      Tensor dout) const;

  ContextOptions options_;
  PieceSetting setting_;
  int kv_heads_, group_heads_;
  ContextTags tags_;
  std::unique_ptr<KeyValueCodec> codec_;
  std::vector<std::vector<Saved>> saved_;  // by frame and group
};

}  // namespace strait
