#include "engine/context/layout.h"

#include <fmt/format.h>

#include <numeric>
#include <stdexcept>

#include "kernels/check.h"

namespace strait {

const char* name_of(TokenLayout layout) {
  switch (layout) {
    case TokenLayout::contiguous:
      return "contiguous";
    case TokenLayout::zigzag:
      return "zigzag";
    case TokenLayout::striped:
      return "striped";
  }
  return "?";
}

namespace {

// Every group takes one stretch of a sequence, or two.
int64_t parts_of(TokenLayout layout, int groups) {
  return layout == TokenLayout::zigzag && groups > 1 ? 2 * groups : groups;
}

}  // namespace

int64_t padded_tokens(TokenLayout layout, int shards, int64_t tokens, int ranks_per_shard) {
  const int64_t unit = std::lcm(parts_of(layout, shards / ranks_per_shard), int64_t{shards});
  return (tokens + unit - 1) / unit * unit;
}

SequenceLayout::SequenceLayout(TokenLayout layout, int shards, int64_t tokens, int ranks_per_shard)
    : layout_(layout),
      shards_(shards),
      tokens_(tokens),
      ranks_per_shard_(ranks_per_shard),
      pieces_(layout == TokenLayout::zigzag && shards > 1 && ranks_per_shard == 1 ? 2 : 1) {
  if (shards < 1 || ranks_per_shard < 1 || shards % ranks_per_shard != 0) {
    throw std::invalid_argument(
        fmt::format("{} shards in groups of {}: both are at least 1, and the groups are whole",
                    shards, ranks_per_shard));
  }
  const int groups = shards / ranks_per_shard;
  const int64_t parts = parts_of(layout, groups);
  if (tokens < 1 || tokens % parts != 0 || tokens % shards != 0) {
    const bool twice = tokens % parts != 0 && parts == 2 * groups;
    throw std::invalid_argument(
        fmt::format("layout {}: a sequence of {} tokens is not divisible by {} ({})",
                    name_of(layout), tokens, twice ? parts : shards,
                    twice ? fmt::format("two pieces for each of {} shards", groups)
                          : fmt::format("{} shards", shards)));
  }
}

std::vector<int32_t> SequenceLayout::positions(int shard) const {
  STRAIT_CHECK(shard >= 0 && shard < shards_);
  const int groups = shards_ / ranks_per_shard_, group = shard / ranks_per_shard_;
  const int64_t of_group = tokens_ / groups,
                begin = (shard % ranks_per_shard_) * shard_tokens();  // in the group
  const int64_t half = of_group / 2;
  std::vector<int32_t> positions;
  positions.reserve(static_cast<size_t>(shard_tokens()));
  for (int64_t t = begin; t < begin + shard_tokens(); ++t) {
    int64_t p = group * of_group + t;
    if (layout_ == TokenLayout::striped) p = t * groups + group;
    if (layout_ == TokenLayout::zigzag && groups > 1)
      p = t < half ? group * half + t : (2 * groups - 1 - group) * half + (t - half);
    positions.push_back(static_cast<int32_t>(p));
  }
  return positions;
}

std::vector<int32_t> SequenceLayout::order() const {
  std::vector<int32_t> all;
  all.reserve(static_cast<size_t>(tokens_));
  for (int shard = 0; shard < shards_; ++shard) {
    const std::vector<int32_t> some = positions(shard);
    all.insert(all.end(), some.begin(), some.end());
  }
  return all;
}

std::vector<int32_t> SequenceLayout::inverse() const {
  const std::vector<int32_t> forward = order();
  std::vector<int32_t> places(forward.size());
  for (size_t i = 0; i < forward.size(); ++i)
    places[static_cast<size_t>(forward[i])] = static_cast<int32_t>(i);
  return places;
}

int64_t SequenceLayout::place(int shard, int piece) const {
  return piece == 0 ? shard : 2 * shards_ - 1 - shard;
}

PieceRelation SequenceLayout::relation(int q_shard, int q_piece, int k_shard, int k_piece,
                                       bool causal) const {
  if (!causal) return PieceRelation::all;
  if (layout_ == TokenLayout::striped || ranks_per_shard_ > 1) return PieceRelation::masked;
  const int64_t q = place(q_shard, q_piece), k = place(k_shard, k_piece);
  if (q == k) return PieceRelation::masked;
  return k < q ? PieceRelation::all : PieceRelation::nothing;
}

bool SequenceLayout::needs(int q_shard, int k_shard, int k_piece, bool causal) const {
  for (int q_piece = 0; q_piece < pieces_; ++q_piece) {
    if (relation(q_shard, q_piece, k_shard, k_piece, causal) != PieceRelation::nothing) return true;
  }
  return false;
}

std::vector<int> SequenceLayout::pieces_needed(int q_shard, int k_shard, bool causal) const {
  std::vector<int> pieces;
  for (int piece = 0; piece < pieces_; ++piece) {
    if (needs(q_shard, k_shard, piece, causal)) pieces.push_back(piece);
  }
  return pieces;
}

std::optional<PiecePlace> SequenceLayout::neighbour(int shard, int piece, int step) const {
  STRAIT_CHECK(shards_ == 1 || (layout_ != TokenLayout::striped && ranks_per_shard_ == 1),
               "pieces of this layout have no neighbours");
  const auto at = static_cast<int>(place(shard, piece)) + step;
  if (at < 0 || at >= shards_ * pieces_) return std::nullopt;
  if (at < shards_) return PiecePlace{at, 0};
  return PiecePlace{2 * shards_ - 1 - at, 1};
}

}  // namespace strait
