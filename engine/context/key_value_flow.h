// What ring and all-gather share: the way of a layer's keys and values through the codec, to other shards and into attention,
// and of their gradients back. One object a forward or backward.
#pragma once

#include <vector>

#include "engine/context/context_link.h"
#include "engine/context/piece_attention.h"

namespace strait {

// Tags of a layer's messages: unique for (layer, stream, hop) among messages of one kind between two ranks. Purpose 0 is that of the
// pipeline's boundaries.
class ContextTags {
 public:
  enum class Stream { payload, gradient, heads, tokens };
  // hops: more than any hop that is asked for.
  ContextTags(int layer, int hops) : layer_(layer), hops_(hops) {}
  Tag operator()(const Frame& frame, record::MessageKind kind, Stream stream, int hop) const {
    STRAIT_CHECK(hop >= 0 && hop < hops_);
    return {kind, frame.microbatch, 1 + (layer_ * 4 + static_cast<int>(stream)) * hops_ + hop};
  }

 private:
  int layer_, hops_;
};

// The sum of payload gradients of one shard's pieces so far.
struct PayloadGradient {
  PieceMessage sum;           // accumulator sections
  std::vector<bool> started;  // of each piece of it; else its memory holds nothing yet
};

class KeyValueFlow {
 public:
  // `piece`: of this layer's keys and values, `heads` of them from `first_head` on.
  KeyValueFlow(Context& ctx, Frame& frame, ContextLink& link, const PieceSetting& setting,
               KeyValueCodec& codec, const KeyValueShape& piece, int first_head);

  // This shard's payload, all pieces; of all its tokens.
  PieceMessage encode(const KeyValueSource& pre);
  // Only these pieces; nothing where there are none, on both sides.
  void send_payload(int to, const Tag& tag, const PieceMessage& payload,
                    const std::vector<int>& pieces);
  PieceMessage receive_payload(int from, const Tag& tag, const std::vector<int>& pieces);
  // Attention to the pieces of `shard` that this one's queries may see.
  void attend(PieceForward& attention, int shard, const PieceMessage& payload);

  // The gradient of `pieces` of `shard` from this shard's queries.
  PayloadGradient attend_backward(PieceBackward& attention, int shard, const PieceMessage& payload,
                                  const std::vector<int>& pieces);
  // Pieces without a sum are sent as zeros.
  void send_gradient(int to, const Tag& tag, const PayloadGradient& gradient);
  PieceMessage receive_gradient(int from, const Tag& tag, const std::vector<int>& pieces);
  // gradient += received; of the pieces that were received.
  void add(PayloadGradient& gradient, const PieceMessage& received);
  // What was received, as a sum to go on with.
  PayloadGradient sum_of(const PieceMessage& received);
  // dpre: of all tokens of this shard.
  void encode_backward(const KeyValueSource& dpre, const PayloadGradient& gradient);

  std::vector<int> all_pieces() const;

 private:
  KeyValuePiece piece(int shard, int index) const;
  KeyValueSource part(const KeyValueSource& all, int index) const;  // of one of this shard's pieces
  bool travels_as_it_is() const;

  Context& ctx_;
  Frame& frame_;
  ContextLink& link_;
  const PieceSetting& setting_;
  KeyValueCodec& codec_;
  KeyValueShape shape_;
  int first_head_;
};

}  // namespace strait
