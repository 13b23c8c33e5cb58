// devices.timing.link_free_step: the factor that gives a published step time to the pipeline that the record holds.
#include "sim/scenario/devices.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>

#include "sim/executor/simulate.h"
#include "sim/network/network.h"
#include "tests/scenario/documents.h"
#include "tests/sim/log_builder.h"

namespace strait::scenario {
namespace {

using strait::testing::StepBuilder;
using ::testing::HasSubstr;

// Two stages, one microbatch, the second with five times the work: 1 GB of traffic that a free network does not feel.
record::StepLog two_stages() {
  StepBuilder b(2);
  b.compute(0, 1'000'000'000'000);
  const uint64_t forward = b.send(0, 1, 1'000'000'000);
  b.receive(1, forward);
  b.compute(1, 5'000'000'000'000);
  b.compute(1, 5'000'000'000'000, record::Phase::backward);
  const uint64_t backward = b.send(1, 0, 1'000'000'000, record::MessageKind::backward);
  b.receive(0, backward);
  b.compute(0, 1'000'000'000'000, record::Phase::backward);
  return b.log;
}

Scenario with_timing(const std::string& devices) {
  Result r = parse_patched(R"({"parallel": {"pipeline": 2}, "devices": )" + devices + "}");
  if (!r.ok()) throw std::runtime_error(r.text());
  return std::move(*r.scenario);
}

double factor_of(const Scenario& s, const record::StepLog& step) {
  return link_free_factor(s, strait::testing::make_header(2), step);
}

// The last of three steps over a network of 1 ns a message.
double seconds_without_links(const Scenario& s, const record::StepLog& step) {
  const record::RecordHeader header = strait::testing::make_header(2);
  std::vector<record::StepLog> steps(3, step);
  for (size_t i = 0; i < steps.size(); ++i) steps[i].step = static_cast<int64_t>(i) + 1;
  sim::NetworkConfig config;
  config.model = sim::NetworkModel::ideal;
  config.links.bandwidth = BitsPerSecond{uint64_t{1} << 62};
  config.links.latency = Nanoseconds{0};
  const auto network = sim::make_ideal(config, 2);
  return sim::simulate(header, steps, make_devices(s, header, factor_of(s, step)), *network)
      .back()
      .step_time()
      .seconds();
}

TEST(LinkFreeStep, IsWhatTheStepTakesWithoutLinks) {
  for (const char* text : {"250ms", "3s", "70us"}) {
    for (const char* device : {"A10G", "H100"}) {
      const Scenario s = with_timing(
          fmt::format(R"({{"timing": {{"device": "{}", "link_free_step": "{}"}}}})", device, text));
      const double wanted = s.devices.timing.link_free_step->seconds();
      // Four computes and two messages, each rounded to a nanosecond.
      EXPECT_NEAR(seconds_without_links(s, two_stages()), wanted, 10e-9) << device << " " << text;
    }
  }
}

TEST(LinkFreeStep, LeavesTimesAloneWhereItIsNotGiven) {
  EXPECT_EQ(factor_of(with_timing(R"({"timing": {"device": "L4"}})"), two_stages()), 1.0);
}

TEST(LinkFreeStep, DifferencesOfRanksComeOnTop) {
  const Scenario
      equal = with_timing(R"({"timing": {"device": "H100", "link_free_step": "1s"}})"),
      slow = with_timing(
          R"({"timing": {"device": "H100", "link_free_step": "1s"}, "ranks": [{"rank": 1, "slowdown": 2.0}]})");
  EXPECT_EQ(factor_of(slow, two_stages()), factor_of(equal, two_stages()));
  EXPECT_GT(seconds_without_links(slow, two_stages()), 1.7);
}

TEST(LinkFreeStep, IsOfTheCommonCardAlone) {
  const Scenario s = with_timing(
      R"({"timing": {"device": "H100", "link_free_step": "1s"}, "ranks": [{"rank": 1, "device": "L4"}]})");
  const auto devices = make_devices(s, strait::testing::make_header(2), 7.0);
  EXPECT_EQ(devices[0].description(), "H100, 7x slower");
  EXPECT_EQ(devices[1].description(), "L4");
  EXPECT_EQ(make_devices(s, strait::testing::make_header(2), 0.5)[0].description(),
            "H100, 2x faster");
}

TEST(LinkFreeStep, NeedsAStepThatComputes) {
  const Scenario s = with_timing(R"({"timing": {"link_free_step": "1s"}})");
  try {
    factor_of(s, StepBuilder(2).log);
    ADD_FAILURE() << "a step without computes was accepted";
  } catch (const std::invalid_argument& e) {
    EXPECT_THAT(e.what(), HasSubstr("computes nothing"));
  }
}

}  // namespace
}  // namespace strait::scenario
