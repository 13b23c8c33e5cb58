// Properties of attention that its value tests do not show: rows without keys, blocks that merge,
// and rows that do not see how the others are split.
#include "tests/kernels/attention_cases.h"

namespace strait::testing {
namespace {

class Attention : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    std::string reason;
    ops_ = make_subject(GetParam(), &reason);
    if (ops_ == nullptr) GTEST_SKIP() << reason;
  }
  std::unique_ptr<Backend> ops_;
};

TEST_P(Attention, OfARowWithoutKeysIsZeroWithLseMinusInfinity) {
  for (DType dtype : {DType::f32, DType::bf16}) {
    const AttentionCase c{"", 1, 70, 66, 2, 1, 16, 0, true, count_from(0, 70), count_from(67, 66),
                          {}, {}};
    const auto results = run_case(attention_forward_case(c, Kind::element), *ops_, dtype, dtype);
    const auto &o = results[0].values, &lse = results[1].values;
    for (size_t u = 0; u < 70; ++u)
      for (size_t h = 0; h < 2; ++h) {
        const bool empty = u < 67;
        EXPECT_EQ(lse[h * 70 + u] == -std::numeric_limits<double>::infinity(), empty) << u;
        for (size_t d = 0; d < 16; ++d) EXPECT_EQ(o[(u * 2 + h) * 16 + d] == 0.0, empty) << u;
      }
  }
}

// Gradients from rows without keys are exactly nothing.
TEST_P(Attention, BackwardOfRowsWithoutKeysAddsNothing) {
  const AttentionCase c{"", 1, 9, 70, 2, 1, 16, 0, true, count_from(0, 9), count_from(9, 70),
                        {}, {}};
  for (const auto& output :
       run_case(attention_backward_case(c, Kind::statistic, false), *ops_, DType::f32, DType::f32))
    for (double value : output.values) EXPECT_EQ(value, 0.0) << output.name;
}

// specs/context_parallelism.md 3.2: o = sum_b exp(lse_b - lse) o_b over blocks b of keys, lse = ln
// sum_b exp(lse_b).
TEST_P(Attention, OverTwoShardsOfKeysMergesToTheWhole) {
  constexpr int64_t B = 1, T = 96, H = 2, Dh = 32, half = T / 2;
  Runner r(*ops_, DType::f32, DType::f32);
  const Tensor q = r.input({B, T, H, Dh}), k = r.input({B, T, H, Dh}), v = r.input({B, T, H, Dh});
  const auto attend = [&](const std::string& name, int64_t begin, int64_t length) {
    AttentionMask mask;
    mask.q_position = r.integers({T}, count_from(0, T));
    mask.k_position = r.integers({length}, count_from(static_cast<int>(begin), length));
    const Tensor o = r.output("o " + name, {B, T, H, Dh}, Kind::statistic, kExact),
                 lse = r.output("lse " + name, {B, H, T}, Kind::statistic, kExact);
    ops_->attention_forward(o, lse, q, k.slice(1, begin, length), v.slice(1, begin, length), mask,
                            0.2);
  };
  attend("whole", 0, T);
  attend("first", 0, half);
  attend("second", half, half);
  const auto results = r.results();
  std::vector<double> merged;
  for (size_t u = 0; u < T; ++u)
    for (size_t h = 0; h < H; ++h) {
      const double first = results[3].values[h * T + u], second = results[5].values[h * T + u];
      const double lse = std::log(std::exp(first) + std::exp(second));
      for (size_t d = 0; d < Dh; ++d) {
        const size_t i = (u * H + h) * Dh + d;
        merged.push_back(std::exp(first - lse) * results[2].values[i] +
                         std::exp(second - lse) * results[4].values[i]);
      }
    }
  EXPECT_LE(nrmse(merged, results[0].values),
            2e-6);  // two f32 attentions of 96 keys and their f32 lse
}

// Blocks of keys to be joined: (B,H,T) log-sum-exps and (B,T,H,Dh) outputs of each; B = 1.
struct Blocks {
  int64_t T = 7, H = 2, Dh = 5;
  std::vector<std::vector<double>> o, lse;
};

// Merges the blocks in the given groups: those of a group first, then the groups, each from the left.
std::vector<double> merged(Backend& ops, const Blocks& blocks,
                           const std::vector<std::vector<size_t>>& groups) {
  Runner r(ops, DType::f32, DType::f32);
  const Shape queries = {1, blocks.T, blocks.H, blocks.Dh}, rows = {1, blocks.H, blocks.T};
  const auto block = [&](size_t i) {
    return std::pair(r.input(queries, Kind::statistic, blocks.o[i]),
                     r.input(rows, Kind::statistic, blocks.lse[i]));
  };
  std::pair<Tensor, Tensor> all;
  for (const auto& group : groups) {
    const auto part = block(group[0]);
    for (size_t i = 1; i < group.size(); ++i) {
      const auto next = block(group[i]);
      ops.attention_merge(part.first, part.second, next.first, next.second);
    }
    if (all.first.defined())
      ops.attention_merge(all.first, all.second, part.first, part.second);
    else
      all = part;
  }
  r.watch("o", all.first, kExact);
  r.watch("lse", all.second, kExact);
  const auto results = r.results();
  std::vector<double> values = results[0].values;
  values.insert(values.end(), results[1].values.begin(), results[1].values.end());
  return values;
}

// specs/context_parallelism.md 15, T5: against the two-pass form 3.2 (c), with rows that are empty in all blocks but one and
// log-sum-exps as far apart as 2e4.
TEST_P(Attention, Invariant05_MergeInAnyOrderAndGroupingIsTheSame) {
  constexpr double kEmpty = -std::numeric_limits<double>::infinity();
  Blocks blocks;
  const auto rows = static_cast<size_t>(blocks.H * blocks.T),
             width = static_cast<size_t>(blocks.Dh);
  for (size_t i = 0; i < 4; ++i) {
    blocks.o.emplace_back();
    blocks.lse.emplace_back();
    for (size_t row = 0; row < rows; ++row) {
      double lse = normal_at(Philox{3}, i, row);
      if (row % 5 == 1) lse += i == 2 ? 1e4 : -1e4;
      if (row % 5 == 2 && i != row % 4) lse = kEmpty;
      blocks.lse[i].push_back(static_cast<double>(static_cast<float>(lse)));
    }
    for (size_t u = 0; u < static_cast<size_t>(blocks.T); ++u)
      for (size_t h = 0; h < static_cast<size_t>(blocks.H); ++h)
        for (size_t d = 0; d < width; ++d) {
          const bool empty = blocks.lse[i][h * static_cast<size_t>(blocks.T) + u] == kEmpty;
          blocks.o[i].push_back(empty ? 0.0
                                      : static_cast<double>(static_cast<float>(
                                            normal_at(Philox{4}, i, (u * 2 + h) * width + d))));
        }
  }
  std::vector<double> expected(rows * width, 0.0), lse(rows);
  for (size_t u = 0; u < static_cast<size_t>(blocks.T); ++u)
    for (size_t h = 0; h < static_cast<size_t>(blocks.H); ++h) {
      const size_t row = h * static_cast<size_t>(blocks.T) + u;
      double largest = kEmpty, sum = 0;
      for (const auto& of_block : blocks.lse) largest = std::max(largest, of_block[row]);
      for (const auto& of_block : blocks.lse) sum += std::exp(of_block[row] - largest);
      lse[row] = largest + std::log(sum);
      for (size_t i = 0; i < 4; ++i)
        for (size_t d = 0; d < width; ++d)
          expected[(u * 2 + h) * width + d] +=
              std::exp(blocks.lse[i][row] - lse[row]) * blocks.o[i][(u * 2 + h) * width + d];
    }
  expected.insert(expected.end(), lse.begin(), lse.end());
  const std::vector<std::vector<std::vector<size_t>>> ways = {
      {{0}, {1}, {2}, {3}}, {{3}, {2}, {1}, {0}}, {{2}, {0}, {3}, {1}},
      {{0, 1}, {2, 3}},     {{3, 0}, {1, 2}},     {{1}, {0, 2, 3}}};
  for (const auto& way : ways) {
    const std::vector<double> values = merged(*ops_, blocks, way);
    ASSERT_EQ(values.size(), expected.size());
    for (size_t i = 0; i < values.size(); ++i)
      EXPECT_NEAR(values[i], expected[i], 2e-6 * std::max(1.0, std::abs(expected[i]))) << i;
  }  // three merges of f32, each within a few of its roundings, 6e-8
}

TEST_P(Attention, Invariant05_MergeWithAnEmptyBlockIsTheIdentity) {
  const double empty = -std::numeric_limits<double>::infinity();
  Runner r(*ops_, DType::f32, DType::f32);
  const Shape queries = {1, 3, 2, 5}, rows = {1, 2, 3};
  const std::vector<double> o = r.random(queries, Kind::statistic, 1),
                            lse = r.random(rows, Kind::statistic, 1), nothing(30, 0.0),
                            never(6, empty);
  for (bool first : {false, true}) {
    const Tensor sum = r.input(queries, Kind::statistic, first ? nothing : o),
                 sum_lse = r.input(rows, Kind::statistic, first ? never : lse);
    ops_->attention_merge(sum, sum_lse, r.input(queries, Kind::statistic, first ? o : nothing),
                          r.input(rows, Kind::statistic, first ? lse : never));
    r.watch("o", sum, kExact);
    r.watch("lse", sum_lse, kExact);
  }
  for (const auto& output : r.results())
    EXPECT_EQ(output.values, output.name == "o" ? o : lse) << output.name;
}

INSTANTIATE_TEST_SUITE_P(On, Attention, ::testing::ValuesIn(subjects()),
                         [](const auto& test) { return test.param; });

// What lets a batch be split into microbatches: the result of a sequence depends on that sequence
// alone, bit for bit.
TEST(CpuAttention, OfASequenceDoesNotDependOnItsBatch) {
  std::string reason;
  const auto ops = make_subject("cpu", &reason);
  constexpr int64_t B = 3, T = 70, H = 4, Hkv = 2, Dh = 32;
  for (DType dtype : {DType::f32, DType::bf16}) {
    Runner r(*ops, dtype, dtype);
    const Tensor q = r.input({B, T, H, Dh}), k = r.input({B, T, Hkv, Dh}),
                 v = r.input({B, T, Hkv, Dh});
    AttentionMask mask;
    mask.q_position = mask.k_position = r.integers({T}, count_from(0, T));
    const auto forward = [&](int64_t begin, int64_t count) {
      const Tensor o = r.output("o", {count, T, H, Dh}, Kind::element, kExact),
                   lse = r.output("lse", {count, H, T}, Kind::statistic, kExact);
      ops->attention_forward(o, lse, q.slice(0, begin, count), k.slice(0, begin, count),
                             v.slice(0, begin, count), mask, 0.2);
    };
    forward(0, B);
    for (int64_t b = 0; b < B; ++b) forward(b, 1);
    const auto results = r.results();
    for (size_t output : {0u, 1u}) {
      std::vector<std::byte> joined_bytes;
      for (size_t b = 0; b < B; ++b) {
        const auto& part = results[2 + 2 * b + output].bytes;
        joined_bytes.insert(joined_bytes.end(), part.begin(), part.end());
      }
      EXPECT_TRUE(joined_bytes == results[output].bytes);
    }
  }
}

}  // namespace
}  // namespace strait::testing
