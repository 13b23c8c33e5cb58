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
