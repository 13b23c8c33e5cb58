// Every misuse is refused, at the right place, in words that help.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

#include "sim/scenario/document.h"
#include "tests/scenario/documents.h"

namespace strait::scenario {
namespace {

using testing::HasSubstr;

TEST(Misuse, IsRefusedWithPointerAndWayOut) {
  for (const Misuse& misuse : misuses()) {
    SCOPED_TRACE(misuse.patch);
    const Result result = parse_patched(misuse.patch);
    EXPECT_FALSE(result.ok());
    ASSERT_EQ(result.problems.size(), 1u) << result.text();
    const Problem& problem = result.problems.front();
    EXPECT_EQ(problem.pointer, misuse.pointer);
    EXPECT_FALSE(problem.found.empty());
    EXPECT_FALSE(problem.allowed.empty());
    EXPECT_THAT(problem.text(), testing::StartsWith("test.json:"));
    for (const std::string& part : misuse.said) EXPECT_THAT(problem.text(), HasSubstr(part));
  }
}

TEST(Misuse, AllProblemsAreShownAtOnceInTheOrderOfTheFile) {
  const Result result = parse_scenario(R"({
  "model": {"preset": "llama-1m", "layer": 3},
  // a comment moves the lines below
  "data": {"corpus": "austen"},
  "training": {
    "steps": 10,
    "batch": 5,
    "optimizer": {"lr": "fast", "warmup_steps": 50}
  },
  "network": {"links": {
    "bandwidth": 80,
    "loss": 2}},
  "seed": 1,
  "seed": 2
})",
                                       "many.json");
  std::vector<std::string> seen;
  for (const Problem& problem : result.problems)
    seen.push_back(std::to_string(problem.line) + " " + problem.pointer);
  EXPECT_EQ(seen, (std::vector<std::string>{
                      "2 /model/layer", "7 /training/batch", "8 /training/optimizer/lr",
                      "8 /training/optimizer/warmup_steps", "11 /network/links/bandwidth",
                      "12 /network/links/loss", "14 /seed"}));
  EXPECT_THAT(result.text(),
              HasSubstr("many.json:14: /seed: found the key \"seed\" a second time"));
  EXPECT_THAT(result.text(), HasSubstr("the first is on line 13"));
}

TEST(Misuse, ARuleIsNotBlamedOnAValueThatIsWrongItself) {
  // microbatches is no number, so nothing is said about batch.
  const Result result = parse_patched(R"({"training": {"batch": 3, "microbatches": "two"}})");
  ASSERT_EQ(result.problems.size(), 1u) << result.text();
  EXPECT_EQ(result.problems[0].pointer, "/training/microbatches");
}

TEST(Misuse, ProblemsBeyondAHundredAreOnlyAnnounced) {
  Json document = base_document();
  for (int i = 0; i < 5000; ++i) document["network"]["unknown" + std::to_string(i)] = i;
  const Result result = parse_scenario(document.dump(), "test.json");
  EXPECT_EQ(result.problems.size(), 101u);
}

// A bound on hangs, not on speed: 10 s is what the fuzz targets allow an input; with quadratic look-ups
// this one took 43 s.
TEST(Misuse, AFileFullOfKeysIsReadInSeconds) {
  std::string text = "{";
  for (int i = 0; text.size() < max_document_bytes - 100; ++i)
    text += (i == 0 ? "\"k" : ",\"k") + std::to_string(i) + "\":1";
  const auto start = std::chrono::steady_clock::now();
  EXPECT_EQ(parse_scenario(text + "}", "test.json").problems.size(), 101u);
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
}

TEST(Misuse, AnUnreadableFileIsAProblem) {
  const Result missing = load_scenario("/nonexistent/scenario.json");
  ASSERT_EQ(missing.problems.size(), 1u);
  EXPECT_THAT(missing.problems[0].text(), HasSubstr("/nonexistent/scenario.json"));
  EXPECT_THAT(missing.problems[0].text(), HasSubstr("No such file"));
  EXPECT_THAT(load_scenario("/tmp").text(), HasSubstr("a directory"));
  EXPECT_THAT(load_scenario("/dev/zero").text(), HasSubstr("bytes"));
}

TEST(NearestName, FindsTheLikeliestAndNothingFarAway) {
  const std::vector<std::string> names = {"bandwidth", "latency", "bandwidth_jitter", "mtu"};
  EXPECT_EQ(nearest_name("bandwith", names), "bandwidth");
  EXPECT_EQ(nearest_name("latnecy", names), "latency");
  EXPECT_EQ(nearest_name("MTU", names), "mtu");
  EXPECT_EQ(nearest_name("bandwidthjitter", names), "bandwidth_jitter");
  EXPECT_EQ(nearest_name("colour", names), "");
  EXPECT_EQ(nearest_name("", names), "");
  EXPECT_EQ(nearest_name("x", names), "");
}

}  // namespace
}  // namespace strait::scenario
