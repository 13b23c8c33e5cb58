// Which tokens of a sequence lie on which shard (specs/context_parallelism.md 2), and which part of the attention between two
// shards has to be computed (section 5).
//
//   contiguous   shard i: positions i n/P + t
//   zigzag       2P pieces of c = n/(2P) tokens in the sequence's order; shard i: piece i, then piece 2P-1-i
//   striped      shard i: positions t P + i
//
// A piece is what a shard holds of one stretch of the sequence, and the unit that attention, payloads and messages are made of: one a
// shard (contiguous, striped) or two (zigzag). With P = 1 every layout is the natural order, in one piece.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace strait {

enum class TokenLayout : uint8_t { contiguous, zigzag, striped };
const char* name_of(TokenLayout layout);

// Of a piece of queries to a piece of keys: no pair is allowed; every pair is; the pairs that the positions allow are.
enum class PieceRelation : uint8_t { nothing, all, masked };

// One of the pieces of a sequence: whose it is, and which of its own.
struct PiecePlace {
  int shard = 0, piece = 0;
  bool operator==(const PiecePlace&) const = default;
};

// What a sequence of `tokens`, at least 1, is to be filled up to for SequenceLayout(layout, shards, …, ranks_per_shard): the least length that can be
// divided. Padding comes last, so that no query before it sees it (section 12, T15).
int64_t padded_tokens(TokenLayout layout, int shards, int64_t tokens, int ranks_per_shard = 1);

class SequenceLayout {
 public:
  // `tokens` of one sequence over `shards`. With `ranks_per_shard` > 1 (Ulysses inside a ring, section 8) the layout is that of shards /
  // ranks_per_shard groups, and the tokens of a group are cut, in their order on it, into one run a rank: a shard is then one piece whose
  // attention the positions decide. Throws std::invalid_argument where the tokens cannot be divided.
  SequenceLayout(TokenLayout layout, int shards, int64_t tokens, int ranks_per_shard = 1);

  TokenLayout layout() const { return layout_; }
  int shards() const { return shards_; }
  int64_t tokens() const { return tokens_; }                  // n, of a sequence
  int64_t shard_tokens() const { return tokens_ / shards_; }  // n_i
  int pieces() const { return pieces_; }                      // of a shard
  int64_t piece_tokens() const { return shard_tokens() / pieces_; }

  // The global position of each token of `shard`, in the order in which it holds them; its pieces lie behind one another.
  std::vector<int32_t> positions(int shard) const;
  // The positions of shard 0, then those of shard 1, …: a permutation of 0 … n-1.
  std::vector<int32_t> order() const;
  // Where in order() each position stands.
  std::vector<int32_t> inverse() const;

  PieceRelation relation(int q_shard, int q_piece, int k_shard, int k_piece, bool causal) const;
  // Whether any query of `q_shard` may see keys of this piece, as far as pieces decide it.
  bool needs(int q_shard, int k_shard, int k_piece, bool causal) const;
  // The pieces of `k_shard` that `q_shard` needs, ascending.
  std::vector<int> pieces_needed(int q_shard, int k_shard, bool causal) const;
  // The piece whose tokens directly follow those of this one (`step` 1) or come before them (-1); none at the ends of the sequence. Only where
  // pieces are stretches of it: not striped over several shards, no groups.
  std::optional<PiecePlace> neighbour(int shard, int piece, int step) const;

 private:
  int64_t place(int shard, int piece) const;  // of a piece among all in the sequence's order

  TokenLayout layout_;
  int shards_;
  int64_t tokens_;
  int ranks_per_shard_;
  int pieces_;
};

}  // namespace strait
