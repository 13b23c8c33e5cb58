// Layouts of tokens over shards: specs/context_parallelism.md 15, T1 and T7.
#include "engine/context/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

namespace strait {
namespace {

constexpr TokenLayout kLayouts[] = {TokenLayout::contiguous, TokenLayout::zigzag,
                                    TokenLayout::striped};
constexpr int64_t kTokens = 48;  // 2P divides it for every P below

TEST(SequenceLayout, Invariant01_PositionsAreABijectionAndOrderHasAnInverse) {
  for (TokenLayout kind : kLayouts)
    for (int shards : {1, 2, 3, 4, 8})
      for (int ranks_per_shard : {1, 2, 3, 4}) {
        if (shards % ranks_per_shard != 0) continue;
        SCOPED_TRACE(std::string(name_of(kind)) + " " + std::to_string(shards) + "/" +
                     std::to_string(ranks_per_shard));
        const SequenceLayout layout(kind, shards, kTokens, ranks_per_shard);
        const std::vector<int32_t> order = layout.order(), inverse = layout.inverse();
        ASSERT_EQ(order.size(), static_cast<size_t>(kTokens));
        std::vector<int> seen(order.size(), 0);
        for (int32_t p : order) ++seen.at(static_cast<size_t>(p));
        EXPECT_THAT(seen, ::testing::Each(1));
        for (size_t i = 0; i < order.size(); ++i)
          EXPECT_EQ(inverse[static_cast<size_t>(order[i])], static_cast<int32_t>(i));
      }
}

// Section 2: the table.
// From the first piece to the last, in the order of the sequence, and back.
TEST(SequenceLayout, NeighboursFollowTheSequence) {
  for (TokenLayout kind : {TokenLayout::contiguous, TokenLayout::zigzag})
    for (int shards : {1, 2, 3}) {
      const SequenceLayout layout(kind, shards, 24);
      const int64_t tokens = layout.piece_tokens();
      for (int shard = 0; shard < shards; ++shard)
        for (int piece = 0; piece < layout.pieces(); ++piece) {
          const auto first = layout.positions(shard)[static_cast<size_t>(piece * tokens)];
          for (int step : {1, -1}) {
            const auto next = layout.neighbour(shard, piece, step);
            const int64_t there = first + step * tokens;
            ASSERT_EQ(next.has_value(), there >= 0 && there < 24);
            if (next) {
              EXPECT_EQ(layout.positions(next->shard)[static_cast<size_t>(next->piece * tokens)],
                        there);
            }
          }
        }
    }
  EXPECT_THROW(SequenceLayout(TokenLayout::striped, 2, 24).neighbour(0, 0, 1), std::logic_error);
}

TEST(SequenceLayout, PositionsAreThoseOfTheTable) {
  using ::testing::ElementsAre;
  EXPECT_THAT(SequenceLayout(TokenLayout::contiguous, 2, 8).positions(1), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(SequenceLayout(TokenLayout::zigzag, 2, 8).positions(0), ElementsAre(0, 1, 6, 7));
  EXPECT_THAT(SequenceLayout(TokenLayout::zigzag, 2, 8).positions(1), ElementsAre(2, 3, 4, 5));
  EXPECT_THAT(SequenceLayout(TokenLayout::striped, 2, 8).positions(1), ElementsAre(1, 3, 5, 7));
  // Two groups of two ranks: the first group's tokens are 0 1 6 7.
  EXPECT_THAT(SequenceLayout(TokenLayout::zigzag, 4, 8, 2).positions(1), ElementsAre(6, 7));
  for (TokenLayout kind : kLayouts)
    EXPECT_THAT(SequenceLayout(kind, 1, 3).positions(0), ElementsAre(0, 1, 2));
}

// The pairs of `q_shard` and `k_shard` that are computed without need of a mask, or through one.
struct Work {
  int64_t allowed = 0;   // pairs of positions that may meet
  int64_t computed = 0;  // pairs of pieces taken whole, and allowed pairs of masked ones
};
Work work_of(const SequenceLayout& layout, int q_shard, int k_shard) {
  const auto q = layout.positions(q_shard), k = layout.positions(k_shard);
  const auto c = static_cast<size_t>(layout.piece_tokens());
  Work work;
  for (int qp = 0; qp < layout.pieces(); ++qp)
    for (int kp = 0; kp < layout.pieces(); ++kp) {
      int64_t allowed = 0;
      for (size_t u = 0; u < c; ++u)
        for (size_t v = 0; v < c; ++v)
          allowed += k[static_cast<size_t>(kp) * c + v] <= q[static_cast<size_t>(qp) * c + u];
      work.allowed += allowed;
      switch (layout.relation(q_shard, qp, k_shard, kp, true)) {
        case PieceRelation::nothing:
          break;
        case PieceRelation::all:
          work.computed += static_cast<int64_t>(c * c);
          break;
        case PieceRelation::masked:
          work.computed += allowed;
      }
    }
  return work;
}

// Section 5.
TEST(SequenceLayout, Invariant07_WorkIsThatOfTheFormulas) {
  for (int shards : {1, 2, 3, 4, 8}) {
    for (TokenLayout kind : kLayouts) {
      SCOPED_TRACE(std::string(name_of(kind)) + " " + std::to_string(shards));
      const SequenceLayout layout(kind, shards, kTokens);
      const int64_t n = layout.shard_tokens(), c = n / 2;
      for (int i = 0; i < shards; ++i) {
        int64_t total = 0;
        for (int step = 0; step < shards; ++step) {
          const Work work = work_of(layout, i, (i + shards - step) % shards);
          EXPECT_EQ(work.computed, work.allowed);
          total += work.computed;
          if (kind == TokenLayout::zigzag && step > 0) {
            EXPECT_EQ(work.computed, 2 * c * c);
          }
          if (kind == TokenLayout::striped) {
            EXPECT_EQ(work.computed, step <= i ? n * (n + 1) / 2 : n * (n - 1) / 2);
          }
        }
        switch (kind) {
          case TokenLayout::contiguous:
            EXPECT_EQ(total, n * n * i + n * (n + 1) / 2);
            break;
          case TokenLayout::zigzag:
            EXPECT_EQ(total, 2 * c * c * shards + c);
            break;
          case TokenLayout::striped:
            EXPECT_EQ(total, shards * n * (n + 1) / 2 - (shards - 1 - i) * n);
        }
      }
    }
  }
}

TEST(SequenceLayout, WithoutCausalityEverythingMeets) {
  const SequenceLayout layout(TokenLayout::zigzag, 4, kTokens);
  for (int q = 0; q < 4; ++q)
    for (int k = 0; k < 4; ++k)
      EXPECT_THAT(layout.pieces_needed(q, k, false), ::testing::ElementsAre(0, 1));
}

// Section 5, selective forwarding: half of the pieces that others hold, three quarters.
TEST(SequenceLayout, NeededPiecesAreTheFractionsOfTheSpecification) {
  for (int shards : {2, 3, 4, 8})
    for (TokenLayout kind : {TokenLayout::contiguous, TokenLayout::zigzag}) {
      const SequenceLayout layout(kind, shards, kTokens);
      int64_t needed = 0;
      for (int to = 0; to < shards; ++to)
        for (int from = 0; from < shards; ++from)
          if (to != from)
            needed += static_cast<int64_t>(layout.pieces_needed(to, from, true).size());
      const int64_t all = shards * (shards - 1) * layout.pieces();
      EXPECT_EQ(4 * needed, (kind == TokenLayout::contiguous ? 2 : 3) * all);
    }
}

TEST(SequenceLayout, SaysWhyTokensCannotBeDivided) {
  const auto message = [](auto make) -> std::string {
    try {
      make();
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "nothing was thrown";
  };
  EXPECT_EQ(
      message([] { SequenceLayout(TokenLayout::zigzag, 4, 44); }),
      "layout zigzag: a sequence of 44 tokens is not divisible by 8 (two pieces for each of 4 "
      "shards)");
  EXPECT_EQ(message([] { SequenceLayout(TokenLayout::striped, 4, 42); }),
            "layout striped: a sequence of 42 tokens is not divisible by 4 (4 shards)");
  EXPECT_EQ(message([] { SequenceLayout(TokenLayout::contiguous, 4, 42, 3); }),
            "4 shards in groups of 3: both are at least 1, and the groups are whole");
  EXPECT_NO_THROW(SequenceLayout(TokenLayout::zigzag, 1, 7));
}

}  // namespace
}  // namespace strait
