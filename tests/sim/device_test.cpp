// Devices: the roofline sum by hand, scaling, and the table of cards.
#include "sim/device/device.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/sim/record_file.h"

namespace strait::sim {
namespace {

using record::Compute;
using record::OpClass;
using ::testing::HasSubstr;

Compute make_compute(std::vector<record::OpWork> ops, int64_t measured = 0) {
  return {record::Category::compute, record::Phase::forward, 0, std::move(ops),
          Nanoseconds{measured}};
}

// Round figures: 1 Tflop/s fp32, 10 Tflop/s bf16 on matrix units, 100 GB/s, half of each reached, 1
// us a launch.
const Card kCard{"test", 1e12, 10e12, 100e9, 0.5, 0.5, Nanoseconds{1000}, "a test"};

// One op: max(flops / (peak * efficiency), bytes / (bandwidth * efficiency)) + launch.
TEST(Roofline, TakesTheSlowerOfArithmeticAndTraffic) {
  const Device device = Device::roofline(kCard);
  // 1e9 fp32 flops at 0.5 Tflop/s: 2 ms; 1 MB at 50 GB/s: 20 us.
  EXPECT_EQ(
      device.nanoseconds(make_compute({{0, OpClass::matrix, false, 1'000'000'000, 1'000'000}}))
          .count,
      2'001'000);
  // The same on matrix units in bf16: 1e9 / 5e12 = 200 us.
  EXPECT_EQ(device.nanoseconds(make_compute({{0, OpClass::matrix, true, 1'000'000'000, 1'000'000}}))
                .count,
            201'000);
  // A vector op in bf16 runs on the ordinary units; 50 MB take 1 ms, its 1e8 flops 200 us.
  EXPECT_EQ(
      device.nanoseconds(make_compute({{0, OpClass::vector, true, 100'000'000, 50'000'000}})).count,
      1'001'000);
}

TEST(Roofline, AddsOpsUp) {
  const record::OpWork matrix{0, OpClass::matrix, false, 1'000'000'000, 0},
      copy{1, OpClass::vector, false, 0, 50'000'000};
  EXPECT_EQ(Device::roofline(kCard).nanoseconds(make_compute({matrix, copy, copy})).count,
            2'001'000 + 2 * 1'001'000);
  EXPECT_EQ(Device::roofline(kCard).nanoseconds(make_compute({})).count, 0);
}

TEST(Roofline, EfficiencyAndSlowdownScaleIt) {
  const Compute compute = make_compute({{0, OpClass::matrix, false, 1'000'000'000, 0}});
  EXPECT_EQ(Device::roofline(kCard, 3.0).nanoseconds(compute).count, 3 * 2'001'000);
  EXPECT_EQ(Device::roofline(kCard, 1.0, 1.0).nanoseconds(compute).count, 1'001'000);
}

TEST(Measured, TakesTheHostTimeAndScalesIt) {
  const Compute compute = make_compute({{0, OpClass::matrix, false, 1'000'000'000, 0}}, 12'345);
  EXPECT_EQ(Device::measured().nanoseconds(compute).count, 12'345);
  EXPECT_EQ(Device::measured(0.1).nanoseconds(compute).count,
            1'235);  // 1234.5, rounded away from zero
}

TEST(Device, RefusesWhatMakesNoSense) {
  EXPECT_THROW(Device::measured(0), std::invalid_argument);
  EXPECT_THROW(Device::measured(-1), std::invalid_argument);
  EXPECT_THROW(Device::roofline(kCard, 1.0, 1.5), std::invalid_argument);
  EXPECT_THROW(Device::roofline(kCard, 1.0, 0.0), std::invalid_argument);
  EXPECT_THROW(Device::roofline(kCard).nanoseconds(
                   make_compute({{0, OpClass::matrix, false, UINT64_MAX, 0}})),
               std::overflow_error);
}

TEST(Cards, AreKnownByName) {
  for (const char* name : {"A10G", "L4", "A100", "H100", "H200", "RTX 4090"}) {
    EXPECT_TRUE(device_known(name)) << name;
    EXPECT_EQ(find_card(name).name, name);
  }
  EXPECT_FALSE(device_known("a10g"));
  EXPECT_EQ(device_names().size(), cards().size());
  try {
    find_card("A10");
    FAIL();
  } catch (const std::invalid_argument& error) {
    EXPECT_THAT(
        error.what(),
        HasSubstr("unknown device \"A10\"; known are A10G, L4, A100, H100, H200, RTX 4090"));
  }
}

// Units in the table: a card computes 0.1 to 2 Pflop/s in bf16 at most, moves 0.1 to 10 TB/s, and
// says where that is from.
TEST(Cards, HavePlausiblePeaksAndASource) {
  for (const Card& card : cards()) {
    EXPECT_GT(card.fp32_flops, 1e13) << card.name;
    EXPECT_LT(card.fp32_flops, 2e14) << card.name;
    EXPECT_GT(card.bf16_matrix_flops, card.fp32_flops) << card.name;
    EXPECT_LT(card.bf16_matrix_flops, 2e15) << card.name;
    EXPECT_GT(card.memory_bytes, 1e11) << card.name;
    EXPECT_LT(card.memory_bytes, 1e13) << card.name;
    EXPECT_FALSE(card.source.empty()) << card.name;
  }
}

TEST(Cards, AreDocumentedAsTheyAre) {
  const std::string page = testing::read_file(std::string(STRAIT_SOURCE_DIR) + "/docs/metrics.md");
  for (const Card& card : cards()) {
    EXPECT_THAT(page, HasSubstr(fmt::format("| {} | {:.1f} | {:.1f} | {:.0f} | {:.2f} |", card.name,
                                            card.fp32_flops / 1e12, card.bf16_matrix_flops / 1e12,
                                            card.memory_bytes / 1e9, card.compute_efficiency)));
    EXPECT_EQ(card.memory_efficiency, 0.8);
    EXPECT_EQ(card.launch.count, 4'000);
  }
}

}  // namespace
}  // namespace strait::sim
