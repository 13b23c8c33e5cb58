// The figures of a cross-check: from files as strait-sim writes them, against values worked out by hand.
#include "sim/cli/crosscheck.h"

#include <gmock/gmock.h>

#include <limits>

#include "sim/cli/trace_comparison.h"
#include "tests/sim/record_file.h"

namespace strait::cli {
namespace {

using namespace strait::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using Values = std::vector<std::optional<double>>;

ModelTimes times(const std::string& model, const std::vector<double>& transfers,
                 const std::vector<double>& steps) {
  ModelTimes t;
  t.model = model;
  for (size_t i = 0; i < transfers.size(); ++i) {
    MessageTime m;
    m.step = 1;
    m.to = 1;
    m.kind = "forward";
    m.microbatch = static_cast<int>(i);
    m.bytes = 100;
    m.transfer_s = transfers[i];
    t.messages.push_back(m);
  }
  t.steps = steps;
  return t;
}

// 1e-12 in this file: far above what doubles lose near 1, far below any figure that is compared.
TEST(Crosscheck, DisagreementIsRelativeToTheReference) {
  // Relative differences: 0, +10 %, -20 %, +50 %.
  const Disagreement d = disagreement(times("fluid", {1.0, 1.1, 0.8, 3.0}, {5, 2, 4}),
                                      times("packet", {1.0, 1.0, 1.0, 2.0}, {5, 2, 2}));
  EXPECT_NEAR(d.messages.median, 0.1, 1e-12);
  EXPECT_NEAR(d.messages.percentile95, 0.5, 1e-12);
  EXPECT_NEAR(d.messages.worst, 0.5, 1e-12);
  EXPECT_EQ(d.messages.worst_index, 3u);
  EXPECT_NEAR(d.message_bias, 0.0, 1e-12);
  EXPECT_NEAR(d.steps.worst, 1.0, 1e-12);
  EXPECT_EQ(d.steps.worst_index, 2u);
  EXPECT_NEAR(d.step_bias, 0.5, 1e-12) << "steps after the first: 3 against 2";
}

TEST(Crosscheck, OnlyTheSameMessagesCanBeCompared) {
  EXPECT_THROW(disagreement(times("a", {1}, {1}), times("b", {1, 1}, {1})), std::invalid_argument);
  EXPECT_THROW(disagreement(times("a", {1}, {1}), times("b", {1}, {1, 1})), std::invalid_argument);
  ModelTimes other = times("b", {1}, {1});
  other.messages[0].to = 2;
  EXPECT_THROW(disagreement(times("a", {1}, {1}), other), std::invalid_argument);
}

TEST(Crosscheck, NoMessagesAndNoTimeAreNoDisagreement) {
  EXPECT_EQ(disagreement(times("a", {}, {0}), times("b", {}, {0})).messages.worst, 0);
  EXPECT_EQ(disagreement(times("a", {1}, {0}), times("b", {0}, {0})).messages.worst,
            std::numeric_limits<double>::infinity());
}

TEST(Crosscheck, RunsAreOrderedWithUnreachedTargetsLast) {
  EXPECT_THAT(order_of(Values{2.0, std::nullopt, 1.0, 2.0}), ElementsAre(2, 0, 3, 1));
}

TEST(Crosscheck, OnlyStrictChangesOfPlaceAreTold) {
  EXPECT_THAT(changed_places(Values{1.0, 2.0, 3.0}, Values{1.0, 3.0, 2.0}),
              ElementsAre(Pair(1, 2)));
  EXPECT_THAT(changed_places(Values{1.0, 2.0}, Values{1.0, 1.0}), IsEmpty());
  EXPECT_THAT(changed_places(Values{1.0, std::nullopt}, Values{std::nullopt, 5.0}),
              ElementsAre(Pair(0, 1)));
  EXPECT_THAT(changed_places(Values{std::nullopt, std::nullopt}, Values{1.0, 2.0}), IsEmpty());
}

constexpr const char* kMessages =
    "step,from,to,kind,microbatch,bytes,sent_s,delivered_s,bound_by\n"
    "1,1,0,backward,0,60,0.300000000,0.400000000,latency\n"
    "1,0,1,sync,-1,70,0.000000000,0.500000000,latency\n"
    "1,0,1,sync,-1,80,0.100000000,0.300000000,latency\n";

TEST(Crosscheck, FilesOfASimulationAreRead) {
  const TemporaryDirectory folder;
  write_file(folder.file("messages.csv"), kMessages);
  write_file(folder.file("steps.csv"),
             "step,step_s\n1,0.500000000\n2,0.250000000\n3,0.750000000\n");
  write_file(folder.file("summary.json"),
             R"({"targets": [{"loss": 5.0, "time_s": 12.5}, {"loss": 4.0, "time_s": "not reached"},
                      {"loss": 3.0, "time_s": "unknown"}]})");
  const ModelTimes t = read_times(folder.path(), "fluid");
  ASSERT_EQ(t.messages.size(), 3u);
  EXPECT_EQ(t.messages[0].bytes, 70u) << "by sender, then in the sender's order";
  EXPECT_EQ(t.messages[1].bytes, 80u);
  EXPECT_EQ(t.messages[2].kind, "backward");
  EXPECT_NEAR(t.messages[1].transfer_s, 0.2, 1e-12);
  EXPECT_EQ(t.first_step_s(), 0.5);
  EXPECT_EQ(t.later_steps_s(), 0.5);
  EXPECT_EQ(t.run_s(), 1.5);
  ASSERT_EQ(t.targets.size(), 2u);
  EXPECT_EQ(t.targets[0].time_s, 12.5);
  EXPECT_EQ(t.targets[1].time_s, std::nullopt);
}

TEST(Crosscheck, ADamagedFileIsNamedWithItsLine) {
  const TemporaryDirectory folder;
  write_file(folder.file("messages.csv"), std::string(kMessages) + "2,0,x\n");
  try {
    read_times(folder.path(), "fluid");
    FAIL() << "accepted";
  } catch (const std::runtime_error& e) {
    EXPECT_THAT(e.what(), HasSubstr("messages.csv, line 5: 3 cells under 9 columns"));
  }
}

TEST(TraceComparison, FindsTheFirstCellThatDiffers) {
  const TemporaryDirectory folder;
  std::filesystem::create_directories(folder.file("a"));
  std::filesystem::create_directories(folder.file("b"));
  write_file(folder.file("a/steps.csv"), "step,loss\n1,5\n2,4\n");
  write_file(folder.file("b/steps.csv"), "step,loss\n1,5\n2,4.5\n");
  write_file(folder.file("a/evals.csv"), "step\n1\n");
  write_file(folder.file("b/evals.csv"), "step\n1\n");
  write_file(folder.file("a/ranks.csv"), "step\n1\n");
  write_file(folder.file("a/summary.json"), R"({"steps": 2, "host": {"training_s": 1}})");
  write_file(folder.file("b/summary.json"), R"({"steps": 2, "host": {"training_s": 2}})");
  const std::vector<ComparedFile> files = compare_traces(folder.file("a"), folder.file("b"));
  ASSERT_EQ(files.size(), 4u);
  EXPECT_EQ(files[0].difference, "line 3, step 2: loss 4, again 4.5");
  EXPECT_NE(files[0].first, files[0].second);
  EXPECT_EQ(files[1].difference, "");
  EXPECT_EQ(files[1].first, files[1].second);
  EXPECT_THAT(files[2].difference, HasSubstr("does not write"));
  EXPECT_EQ(files[3].difference, "") << "host times are left out";
}

}  // namespace
}  // namespace strait::cli
