// Ring attention (specs/context_parallelism.md 4): at step s rank i computes with the keys and values of shard (i - s) mod P, which
// came from rank i - 1 while it computed the step before.
//
// Backward, schedule `home` (4.2): the same way again; the gradient of shard j starts on rank j, follows its keys and values one step
// behind, and is home after P hops. Schedule `reverse` (4.3): the ring runs backwards from where the forward ended, so that step t
// meets shard (i + 1 + t) mod P, the own one last, and gradients are home after P - 1 hops.
//
// With kv_send needed, the pieces of a block that nobody further along its way needs stay behind; gradients always travel whole.
#pragma once

#include <memory>
#include <vector>

#include "engine/context/context_attention.h"
#include "engine/context/key_value_flow.h"

namespace strait {

class RingAttention final : public ContextAttention {
 public:
  // `kv_heads`: of what it is given.
  RingAttention(const ContextOptions& options, PieceSetting setting, int layer, int frames,
                int kv_heads, std::unique_ptr<KeyValueCodec> codec);
  void forward(Context& ctx, Frame& frame, ContextLink& link, Tensor o, Tensor q,
               const KeyValueSource& pre) override;
  void backward(Context& ctx, Frame& frame, ContextLink& link, Tensor dq,
                const KeyValueSource& dpre, Tensor dout) override;
  KeyValueCodec& codec() override { return *codec_; }

 private:
  struct Saved {
    Tensor q, o;
    std::vector<Tensor> lse;
    PieceMessage payload;  // home: the own one; reverse: the last that came, of shard i + 1
  };
  KeyValueFlow flow(Context& ctx, Frame& frame, ContextLink& link, const Saved& saved);
  // The pieces of `shard` that are on their way on its hop number `hop` (1 to P-1).
  std::vector<int> travelling(int shard, int hop) const;
  void backward_home(Context& ctx, Frame& frame, ContextLink& link, Saved& s,
                     PieceBackward& queries, const KeyValueSource& dpre);
  void backward_reverse(Context& ctx, Frame& frame, ContextLink& link, Saved& s,
                        PieceBackward& queries, const KeyValueSource& dpre);

  ContextOptions options_;
  PieceSetting setting_;
  int kv_heads_;
  ContextTags tags_;
  std::unique_ptr<KeyValueCodec> codec_;
  std::vector<Saved> saved_;
};

}  // namespace strait
