#include "engine/context/key_value_flow.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace strait {

using record::Phase;

KeyValueFlow::KeyValueFlow(Context& ctx, Frame& frame, ContextLink& link,
                           const PieceSetting& setting, KeyValueCodec& codec,
                           const KeyValueShape& piece, int first_head)
    : ctx_(ctx),
      frame_(frame),
      link_(link),
      setting_(setting),
      codec_(codec),
      shape_(piece),
      first_head_(first_head) {}

std::vector<int> KeyValueFlow::all_pieces() const {
  std::vector<int> pieces(static_cast<size_t>(setting_.layout.pieces()));
  std::iota(pieces.begin(), pieces.end(), 0);
  return pieces;
}

KeyValuePiece KeyValueFlow::piece(int shard, int index) const {
  return {shard, index, first_head_, shape_, setting_.positions_of(shard, index)};
}

KeyValueSource KeyValueFlow::part(const KeyValueSource& all, int index) const {
  if (all.x.defined()) return {.x = setting_.piece_of(all.x, index), .qkv = all.qkv};
  return {setting_.piece_of(all.k, index), setting_.piece_of(all.v, index)};
}

PieceMessage KeyValueFlow::encode(const KeyValueSource& pre) {
  PieceMessage payload(link_.pool(), ctx_.ops, all_pieces(), codec_.payload(shape_));
  std::vector<OwnPiece> pieces;
  for (int index : payload.pieces())
    pieces.push_back({piece(link_.shard(), index), part(pre, index), {}});
  codec_.before_encode(ctx_, frame_, link_, setting_.layout, pieces);
  link_.codec(Phase::encode, [&] {
    for (const OwnPiece& own : pieces)
      codec_.encode(ctx_, frame_, payload.piece(own.piece.index), own.pre, own.piece);
  });
  const Bytes dense = KeyValueCodec::dense_payload(shape_, setting_.type);
  payload.message().dense = {dense.count * payload.pieces().size()};
  return payload;
}

void KeyValueFlow::send_payload(int to, const Tag& tag, const PieceMessage& payload,
                                const std::vector<int>& pieces) {
  if (!pieces.empty()) link_.send(to, tag, payload.part(pieces).message());
}

PieceMessage KeyValueFlow::receive_payload(int from, const Tag& tag,
                                           const std::vector<int>& pieces) {
  if (pieces.empty()) return {};
  return {link_.receive(from, tag), pieces, codec_.payload(shape_)};
}

void KeyValueFlow::attend(PieceForward& attention, int shard, const PieceMessage& payload) {
  for (int index : payload.pieces()) {
    if (!setting_.layout.needs(link_.shard(), shard, index, setting_.causal)) continue;
    ArenaScope scope(ctx_.scratch);
    KeyValue kv;
    link_.codec(Phase::decode, [&] {
      kv = codec_.decode(ctx_, frame_, payload.piece(index), piece(shard, index));
    });
    attention.add(ctx_, frame_, shard, index, kv);
  }
}

PayloadGradient KeyValueFlow::attend_backward(PieceBackward& attention, int shard,
                                              const PieceMessage& payload,
                                              const std::vector<int>& pieces) {
  PayloadGradient gradient{PieceMessage(link_.pool(), ctx_.ops, pieces, codec_.accumulator(shape_)),
                           std::vector<bool>(pieces.size(), false)};
  for (size_t i = 0; i < pieces.size(); ++i) {
    const int index = pieces[i];
    if (!setting_.layout.needs(link_.shard(), shard, index, setting_.causal)) continue;
    ArenaScope scope(ctx_.scratch);
    const Tensors received = payload.piece(index), sum = gradient.sum.piece(index);
    KeyValue kv, dkv = codec_.gradient_views(sum);
    link_.codec(Phase::decode,
                [&] { kv = codec_.decode(ctx_, frame_, received, piece(shard, index)); });
    const bool in_place = dkv.defined();
    if (!in_place) {
      const DType s = statistics_of(kv.k.dtype);
      dkv = {ctx_.scratch.take(shape_.shape(), s), ctx_.scratch.take(shape_.shape(), s)};
    }
    gradient.started[i] = attention.add(ctx_, frame_, shard, index, kv, dkv);
    if (in_place) continue;
    link_.codec(Phase::encode_grad, [&] {
      codec_.decode_backward(ctx_, frame_, sum, dkv, received, piece(shard, index), false);
    });
  }
  return gradient;
}

bool KeyValueFlow::travels_as_it_is() const {
  const Sections sum = codec_.accumulator(shape_), wire = codec_.gradient(shape_);
  return std::equal(sum.begin(), sum.end(), wire.begin(), wire.end(),
                    [](const Message::Section& a, const Message::Section& b) {
                      return a.dtype == b.dtype && a.shape == b.shape;
                    });
}

void KeyValueFlow::send_gradient(int to, const Tag& tag, const PayloadGradient& gradient) {
  const std::vector<int>& pieces = gradient.sum.pieces();
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (gradient.started[i]) continue;
    for (const Tensor& section : gradient.sum.piece(pieces[i])) ctx_.ops.fill(section, 0);
  }
  PieceMessage wire = gradient.sum;
  if (!travels_as_it_is()) {
    wire = PieceMessage(link_.pool(), ctx_.ops, pieces, codec_.gradient(shape_));
    link_.codec(Phase::encode_grad, [&] {
      for (int index : pieces)
        codec_.encode_gradient(ctx_, frame_, wire.piece(index), gradient.sum.piece(index));
    });
  }
  const Bytes dense = KeyValueCodec::dense_gradient(shape_, setting_.type);
  wire.message().dense = {dense.count * pieces.size()};
  link_.send(to, tag, wire.message());
}

PieceMessage KeyValueFlow::receive_gradient(int from, const Tag& tag,
                                            const std::vector<int>& pieces) {
  if (pieces.empty()) return {};
  return {link_.receive(from, tag), pieces, codec_.gradient(shape_)};
}

void KeyValueFlow::add(PayloadGradient& gradient, const PieceMessage& received) {
  if (!received.defined()) return;
  link_.codec(Phase::decode_grad, [&] {
    for (size_t i = 0; i < gradient.started.size(); ++i) {
      const int index = gradient.sum.pieces()[i];
      const auto& there = received.pieces();
      if (std::find(there.begin(), there.end(), index) == there.end()) continue;
      codec_.add_gradient(ctx_, frame_, gradient.sum.piece(index), received.piece(index),
                          gradient.started[i]);
      gradient.started[i] = true;
    }
  });
}

PayloadGradient KeyValueFlow::sum_of(const PieceMessage& received) {
  const size_t pieces = received.pieces().size();
  if (travels_as_it_is()) return {received, std::vector<bool>(pieces, true)};
  PayloadGradient gradient{
      PieceMessage(link_.pool(), ctx_.ops, received.pieces(), codec_.accumulator(shape_)),
      std::vector<bool>(pieces, false)};
  add(gradient, received);
  return gradient;
}

void KeyValueFlow::encode_backward(const KeyValueSource& dpre, const PayloadGradient& gradient) {
  std::vector<OwnPiece> pieces;
  for (int index : gradient.sum.pieces())
    pieces.push_back({piece(link_.shard(), index), {}, gradient.sum.piece(index)});
  codec_.before_encode_backward(ctx_, frame_, link_, setting_.layout, pieces);
  link_.codec(Phase::decode_grad, [&] {
    for (int index : gradient.sum.pieces())
      codec_.encode_backward(ctx_, frame_, part(dpre, index), gradient.sum.piece(index),
                             piece(link_.shard(), index));
  });
}

}  // namespace strait
