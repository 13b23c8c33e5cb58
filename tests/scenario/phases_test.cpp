// training.phases: what a phase sets stays set until another phase sets it anew.
#include <gtest/gtest.h>

#include "tests/scenario/documents.h"

namespace strait::scenario {
namespace {

Scenario with_phases() {
  const Result result = parse_patched(R"({
    "compression": {"pipeline": {"method": "subspace", "rank": 8}},
    "training": {"optimizer": {"lr": 0.002}, "phases": [
      {"at": 10, "set": {"model.context": 256, "training.optimizer.lr": 0.001}},
      {"at": 20, "set": {"compression.pipeline.method": "none"}},
      {"at": 30, "set": {"model.context": 512}}]}})");
  if (!result.ok()) throw std::runtime_error(result.text());
  return *result.scenario;
}

TEST(Phases, AddUp) {
  const Scenario s = with_phases();
  const auto at = [&](size_t count) { return *phase_scenario(s, count).scenario; };
  EXPECT_EQ(to_json(at(0))["training"].contains("phases"), false);
  EXPECT_EQ(at(0).model.context, s.model.context);
  EXPECT_EQ(at(0).training.optimizer.lr, 0.002);
  EXPECT_EQ(at(1).model.context, 256);
  EXPECT_EQ(at(1).training.optimizer.lr, 0.001);
  EXPECT_EQ(at(1).compression.pipeline.method(), "subspace");
  EXPECT_EQ(at(2).model.context, 256);
  EXPECT_EQ(at(2).compression.pipeline.method(), "none");
  EXPECT_EQ(at(3).model.context, 512);
  EXPECT_EQ(at(3).training.optimizer.lr, 0.001);
  EXPECT_EQ(at(3).training.steps, s.training.steps);
}

TEST(Phases, ChangeTheRecordAndCheckpointsDoNot) {
  const Scenario s = with_phases();
  Scenario other = s;
  other.training.phases.pop_back();
  EXPECT_NE(record_hash(other), record_hash(s));
  other = s;
  other.training.checkpoint_every = 7;
  other.training.keep_checkpoints = 1;
  EXPECT_EQ(record_hash(other), record_hash(s));
  other.training.init_from = "runs/before";
  EXPECT_NE(record_hash(other), record_hash(s));
}

TEST(Phases, AreAHundredAtMost) {
  Json patch;
  for (int i = 0; i < 101; ++i)
    patch["training"]["phases"].push_back({{"at", i + 2}, {"set", {{"training.batch", 8}}}});
  patch["training"]["steps"] = 1000;
  const Result result = parse_patched(patch.dump());
  ASSERT_EQ(result.problems.size(), 1u) << result.text();
  EXPECT_EQ(result.problems[0].pointer, "/training/phases");
  EXPECT_EQ(result.problems[0].allowed.substr(0, 21), "a list of at most 100");
}

TEST(Phases, CanBeLeftOutOnTheCommandLine) {
  const Result result =
      parse_patched(R"({"training": {"phases": [{"at": 10, "set": {"model.context": 256}}]}})",
                    {"training.phases=null"});
  ASSERT_TRUE(result.ok()) << result.text();
  EXPECT_TRUE(result.scenario->training.phases.empty());
}

}  // namespace
}  // namespace strait::scenario
