#include "engine/memory_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/engine/pipeline.h"

namespace strait::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TrainingConfig config(int microbatches) {
  TrainingConfig c = tiny(2, "none", DType::f32);
  c.schedule = "1f1b";  // as many frames as stages, so smaller microbatches need less
  c.batch = 8;
  c.microbatches = microbatches;
  return c;
}

uint64_t needed(int microbatches) { return memory_needed(dry_run(config(microbatches)).ranks); }

std::string problem(uint64_t available) {
  return memory_problem(config(2), dry_run(config(2)).ranks, available);
}

TEST(MemoryPlan, CountsParametersFramesAndScratchOfEveryRank) {
  const std::vector<RankPlan> ranks = {{{0, 1}, 3, 10, 100, 20, 7}, {{1, 2}, 1, 10, 50, 20, 7}};
  EXPECT_EQ(memory_needed(ranks), 100u + 3 * 20 + 7 + 50 + 20 + 7);
}

TEST(MemoryPlan, WhatFitsIsNoProblem) { EXPECT_EQ(problem(needed(2)), ""); }

TEST(MemoryPlan, NamesTheLargestMicrobatchThatFits) {
  ASSERT_LT(needed(4), needed(2));
  ASSERT_LT(needed(8), needed(4));
  EXPECT_THAT(problem(needed(2) - 1), AllOf(HasSubstr("for its 2 ranks"),
                                            HasSubstr("with 4 microbatches, of 2 sequences")));
  EXPECT_THAT(problem(needed(4) - 1), HasSubstr("with 8 microbatches, of 1 sequences"));
}

TEST(MemoryPlan, SaysWhenNoMicrobatchHelps) {
  EXPECT_THAT(problem(1), HasSubstr("with smaller microbatches it would need at least"));
}

}  // namespace
}  // namespace strait::testing
