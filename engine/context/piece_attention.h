// The attention of one rank's queries to keys that arrive piece by piece, forward and backward (specs/context_parallelism.md 3
// to 5): which pairs of pieces are computed, with which mask, and where their results are merged and summed. Knows no message.
#pragma once

#include <vector>

#include "engine/context/key_value_codec.h"
#include "engine/context/layout.h"
#include "engine/nn/module.h"

namespace strait {

// What does not change from microbatch to microbatch.
struct PieceSetting {
  SequenceLayout layout;
  bool causal = true;
  double scale = 1;                   // of the scores
  DType type = DType::f32;            // T
  const Buffer* positions = nullptr;  // (n) i32: of all tokens, in the order of the layout

  // Those of one piece: (piece_tokens) i32.
  Tensor positions_of(int shard, int piece) const;
  // (B, piece_tokens) i32 in scratch; undefined where the frame has no documents.
  Tensor documents_of(Context& ctx, const Frame& frame, int shard, int piece) const;
  // Tokens of piece `piece` of a shard's tensor (B, shard_tokens, ...).
  Tensor piece_of(const Tensor& x, int piece) const;
};

class PieceForward {
 public:
  // q (B,n_i,H,Dh) T, o the same shape T: both strided in all but the last two; lse (B,H,piece_tokens) S of each piece. Scratch stays in use
  // until the caller rewinds, after finish().
  PieceForward(Context& ctx, const Frame& frame, const PieceSetting& setting, int shard, Tensor o,
               std::vector<Tensor> lse, Tensor q);
  // kv (B,piece_tokens,Hkv,Dh) T.
  void add(Context& ctx, const Frame& frame, int k_shard, int k_piece, const KeyValue& kv);
  // o is there, rounded once.
  void finish(Context& ctx);

 private:
  struct Queries {
    Tensor q, o, lse, documents;  // o: where it is summed, S
    Tensor result;                // where it is rounded to; undefined: `o` is it
    bool started = false;
  };
  const PieceSetting& setting_;
  int shard_;
  std::vector<Queries> pieces_;
};

class PieceBackward {
 public:
  // dq, dout, q, o as above; dq T is overwritten; lse as the forward left it.
  PieceBackward(Context& ctx, const Frame& frame, const PieceSetting& setting, int shard, Tensor dq,
                Tensor dout, Tensor q, Tensor o, const std::vector<Tensor>& lse);
  // gradient (B,piece_tokens,Hkv,Dh) S contiguous = the gradient of kv from this rank's queries. False, and nothing is
  // written, where no query may see this piece.
  bool add(Context& ctx, const Frame& frame, int k_shard, int k_piece, const KeyValue& kv,
           const KeyValue& gradient);
  void finish(Context& ctx);  // dq is there

 private:
  struct Queries {
    Tensor q, dout, lse, delta, documents;
    Tensor dq;      // where it is summed: contiguous, S
    Tensor result;  // where it is rounded to
    bool started = false;
  };
  const PieceSetting& setting_;
  int shard_;
  std::vector<Queries> pieces_;
};

}  // namespace strait
