// The order of samples is a permutation in every epoch, and a pure function of one integer.
#include "engine/data/sampler.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "engine/data/dataset.h"
#include "tests/engine/data_support.h"

namespace strait {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<int32_t> counting(int32_t count) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  std::iota(tokens.begin(), tokens.end(), 0);
  return tokens;
}

Sampler sampler(int32_t count, int64_t context, uint64_t seed) {
  return Sampler(std::make_shared<TokenStream>(counting(count), count), 0, count, context, seed);
}

TEST(IndexPermutation, IsAPermutationOfEverySize) {
  for (int64_t size = 1; size <= 300; ++size) {
    const IndexPermutation permutation(size, 17);
    std::set<int64_t> images;
    for (int64_t i = 0; i < size; ++i) images.insert(permutation(i));
    EXPECT_EQ(static_cast<int64_t>(images.size()), size);
    EXPECT_EQ(*images.begin(), 0);
    EXPECT_EQ(*images.rbegin(), size - 1);
  }
}

TEST(IndexPermutation, ReachesIndicesBeyond32Bits) {
  const int64_t size = int64_t{3} << 40;
  const IndexPermutation permutation(size, 1);
  int64_t beyond = 0;
  for (int64_t i = 0; i < 100; ++i) {
    EXPECT_LT(permutation(i), size);
    beyond += permutation(i) > INT32_MAX;
  }
  EXPECT_GT(beyond, 90) << "one in a thousand lies below";
}

// Over 4,000 keys each of the 24 orders of 4 things is expected 167 times with a standard deviation
// of 13; the bounds lie more than five deviations out, and the keys are fixed, so the outcome is
// too.
TEST(IndexPermutation, GivesAllOrdersAboutEquallyOften) {
  std::map<std::vector<int64_t>, int> counts;
  for (uint64_t key = 0; key < 4000; ++key) {
    const IndexPermutation p(4, key);
    ++counts[{p(0), p(1), p(2), p(3)}];
  }
  ASSERT_EQ(counts.size(), 24u);
  for (const auto& [order, count] : counts) {
    EXPECT_GT(count, 100);
    EXPECT_LT(count, 235);
  }
}

TEST(Sampler, SampleIsContextTokensAndTargetsAreOneFurther) {
  const auto samples = sampler(41, 10, 3);
  ASSERT_EQ(samples.samples(), 4) << "40 inputs and one more target";
  std::vector<int32_t> ids(20), targets(20);
  samples.fill(1, 2, ids.data(), targets.data());
  for (int row = 0; row < 2; ++row) {
    const auto first = static_cast<int32_t>(samples.sample_at(1 + row) * 10);
    for (int t = 0; t < 10; ++t) {
      EXPECT_EQ(ids[static_cast<size_t>(row * 10 + t)], first + t);
      EXPECT_EQ(targets[static_cast<size_t>(row * 10 + t)], first + t + 1);
    }
  }
}

TEST(Sampler, ALastSampleWithoutATargetIsLeftOut) {
  EXPECT_EQ(sampler(40, 10, 3).samples(), 3);
  EXPECT_EQ(sampler(10, 10, 3).samples(), 0);
  EXPECT_EQ(sampler(11, 10, 3).samples(), 1);
}

TEST(Sampler, EveryEpochVisitsEverySampleOnceInAnotherOrder) {
  const auto samples = sampler(1001, 10, 5);
  std::set<std::vector<int64_t>> orders;
  for (int64_t epoch = 0; epoch < 4; ++epoch) {
    std::vector<int64_t> order;
    for (int64_t i = 0; i < 100; ++i) order.push_back(samples.sample_at(epoch * 100 + i));
    orders.insert(order);
    std::sort(order.begin(), order.end());
    for (int64_t i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<size_t>(i)], i);
  }
  EXPECT_EQ(orders.size(), 4u);
}

TEST(Sampler, ResumesFromTheCounterAloneWhateverTheBatch) {
  const auto whole = sampler(1001, 10, 5);
  std::vector<int32_t> ids(150 * 10), targets(150 * 10);
  whole.fill(0, 150, ids.data(), targets.data());  // into the second epoch
  for (const int64_t batch : {1, 7, 50}) {
    const auto fresh = sampler(1001, 10, 5);
    std::vector<int32_t> part(static_cast<size_t>(batch * 10)), next(part.size());
    for (int64_t counter = 0; counter + batch <= 150; counter += batch) {
      fresh.fill(counter, batch, part.data(), next.data());
      EXPECT_TRUE(std::equal(part.begin(), part.end(), ids.begin() + counter * 10))
          << batch << " " << counter;
      EXPECT_TRUE(std::equal(next.begin(), next.end(), targets.begin() + counter * 10));
    }
  }
}

// The order is part of what makes a run reproducible: it must not change between versions.
TEST(Sampler, OrderIsPinned) {
  const auto samples = sampler(81, 10, 1);
  std::vector<int64_t> order;
  for (int64_t i = 0; i < 16; ++i) order.push_back(samples.sample_at(i));
  EXPECT_THAT(order, ElementsAre(0, 6, 7, 5, 1, 2, 4, 3, 0, 2, 5, 6, 7, 3, 4, 1));
}

TEST(Sampler, SeedsGiveOtherOrders) {
  const auto one = sampler(1001, 10, 1), two = sampler(1001, 10, 2);
  int equal = 0;
  for (int64_t i = 0; i < 100; ++i) equal += one.sample_at(i) == two.sample_at(i);
  EXPECT_LT(equal, 10) << "one is expected";
}

TEST(Dataset, TrainingAndValidationShareNoToken) {
  const auto data = dataset_from_tokens(counting(1000), 1000, 0.25, 9, 4);
  EXPECT_EQ(data.training.end(), data.validation.begin());
  std::set<int32_t> seen[2];
  int which = 0;
  for (const auto* part : {&data.training, &data.validation}) {
    std::vector<int32_t> ids(9), targets(9);
    for (int64_t i = 0; i < part->samples(); ++i) {
      part->fill(i, 1, ids.data(), targets.data());
      seen[which].insert(ids.begin(), ids.end());
      seen[which].insert(targets.begin(), targets.end());
    }
    ++which;
  }
  EXPECT_LT(*seen[0].rbegin(), 750);
  EXPECT_GE(*seen[1].begin(), 750);
  EXPECT_EQ(data.training.samples(), 749 / 9);
  EXPECT_EQ(data.validation.samples(), 249 / 9);
}

TEST(Dataset, ValidationOrderDoesNotDependOnTheSeed) {
  const auto one = dataset_from_tokens(counting(1000), 1000, 0.25, 9, 1),
             two = dataset_from_tokens(counting(1000), 1000, 0.25, 9, 2);
  for (int64_t i = 0; i < 27; ++i)
    EXPECT_EQ(one.validation.sample_at(i), two.validation.sample_at(i));
  EXPECT_EQ(one.hash, two.hash);
}

TEST(Dataset, SaysWhyItIsTooSmallOrRefusesTheSplit) {
  const auto error_for = [](int32_t tokens, double fraction, int64_t context) {
    return error_of<std::invalid_argument>(
        [&] { dataset_from_tokens(counting(tokens), 1000, fraction, context, 1); });
  };
  EXPECT_THAT(error_for(10, 0, 10),
              HasSubstr("10 tokens to train on, and one sample of context 10 needs 11"));
  EXPECT_THAT(error_for(1000, 0.01, 10), HasSubstr("leaves 10 to validate on"));
  EXPECT_THAT(error_for(100, 1.0, 10), HasSubstr("validation_fraction 1"));
  EXPECT_THAT(error_for(100, -0.1, 10), HasSubstr("validation_fraction -0.1"));
  EXPECT_THAT(error_for(100, std::nan(""), 10), HasSubstr("validation_fraction nan"));
  EXPECT_THAT(error_for(100, 0.1, 0), HasSubstr("context 0"));
  EXPECT_EQ(dataset_from_tokens(counting(100), 100, 0, 10, 1).validation.samples(), 0);
}

}  // namespace
}  // namespace strait
