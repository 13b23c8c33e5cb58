// Learning rates against values computed by hand from the formulas in the header.
#include "engine/optimizer/learning_rate.h"

#include <cmath>
#include <stdexcept>

#include <gtest/gtest.h>

namespace strait {
namespace {

using Kind = LearningRateSchedule::Kind;

// One or two roundings of a double away from the exact decimal value.
constexpr double kRounding = 1e-18;

TEST(LearningRate, WarmsUpLinearlyFromPeakOverWarmupToThePeak) {
  for (const Kind kind : {Kind::constant, Kind::linear, Kind::cosine}) {
    const LearningRateSchedule schedule{kind, 1e-3, 4, 100, 0.1};
    EXPECT_NEAR(schedule.at(1), 0.25e-3, kRounding);
    EXPECT_NEAR(schedule.at(2), 0.5e-3, kRounding);
    EXPECT_NEAR(schedule.at(3), 0.75e-3, kRounding);
    EXPECT_EQ(schedule.at(4), 1e-3);
  }
}

TEST(LearningRate, StaysAtThePeakWhenConstant) {
  const LearningRateSchedule schedule{Kind::constant, 1e-3, 2, 10, 0.1};
  for (const int64_t step : {3, 10, 1000}) EXPECT_EQ(schedule.at(step), 1e-3);
}

TEST(LearningRate, FallsInALine) {
  const LearningRateSchedule schedule{Kind::linear, 1e-3, 2, 10, 0.2};
  EXPECT_NEAR(schedule.at(3), 0.9e-3, kRounding);   // p = 1/8: 1 - 0.8/8
  EXPECT_NEAR(schedule.at(6), 0.6e-3, kRounding);   // p = 1/2
  EXPECT_NEAR(schedule.at(10), 0.2e-3, kRounding);  // p = 1
}

TEST(LearningRate, FallsInHalfACosine) {
  const LearningRateSchedule schedule{Kind::cosine, 1e-3, 4, 10, 0.1};
  EXPECT_NEAR(schedule.at(6), 0.775e-3, kRounding);  // p = 1/3: cos = 1/2, 0.1 + 0.9 * 0.75
  EXPECT_NEAR(schedule.at(7), 0.55e-3, kRounding);   // p = 1/2: cos = 0
  EXPECT_NEAR(schedule.at(8), 0.325e-3, kRounding);  // p = 2/3: cos = -1/2
  EXPECT_NEAR(schedule.at(10), 0.1e-3, kRounding);
}

TEST(LearningRate, KeepsItsFinalValueAfterTheLastStep) {
  const LearningRateSchedule schedule{Kind::cosine, 1e-3, 4, 10, 0.1};
  EXPECT_EQ(schedule.at(11), schedule.at(10));
  EXPECT_EQ(schedule.at(1'000'000), schedule.at(10));
}

TEST(LearningRate, LeavesThePeakAtOnceWithoutWarmup) {
  const LearningRateSchedule schedule{Kind::linear, 1.0, 0, 4, 0.0};
  EXPECT_EQ(schedule.at(1), 0.75);
  EXPECT_EQ(schedule.at(4), 0.0);
}

TEST(LearningRate, IsFinalBehindAWarmupThatIsLongerThanTheRun) {
  const LearningRateSchedule schedule{Kind::cosine, 1.0, 10, 5, 0.5};
  EXPECT_EQ(schedule.at(5), 0.5);
  EXPECT_EQ(schedule.at(10), 1.0);
  EXPECT_EQ(schedule.at(11), 0.5);
}

TEST(LearningRate, CountsStepsFromOne) {
  const LearningRateSchedule schedule{Kind::constant, 1.0, 0, 1, 0.0};
  EXPECT_THROW(schedule.at(0), std::logic_error);
}

TEST(LearningRate, ListsTheNamesWhenOneIsUnknown) {
  EXPECT_EQ(learning_rate_kind("constant"), Kind::constant);
  EXPECT_EQ(learning_rate_kind("linear"), Kind::linear);
  EXPECT_EQ(learning_rate_kind("cosine"), Kind::cosine);
  try {
    learning_rate_kind("cosinus");
    FAIL() << "no error";
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(),
                 "unknown learning-rate schedule 'cosinus'; allowed: constant, linear, cosine");
  }
}

}  // namespace
}  // namespace strait
