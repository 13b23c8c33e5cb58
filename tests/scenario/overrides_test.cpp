// "--set path.to.key=value": what it reaches, what it replaces, and how it refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/scenario/documents.h"

namespace strait::scenario {
namespace {

using testing::HasSubstr;

Json overridden(const std::string& patch, const std::vector<std::string>& assignments) {
  Json document = patched(patch);
  const auto problems = apply_overrides(document, assignments);
  for (const Problem& problem : problems) ADD_FAILURE() << problem.text();
  return document;
}

std::string refused(const std::string& patch, const std::vector<std::string>& assignments) {
  Json document = patched(patch);
  const Json before = document;
  std::string text;
  for (const Problem& problem : apply_overrides(document, assignments))
    text += problem.text() + "\n";
  EXPECT_FALSE(text.empty());
  EXPECT_EQ(document, before) << "the document is left alone where anything is wrong";
  return text;
}

TEST(Set, MakesObjectsOnTheWayAndTakesJsonOrText) {
  const Json document =
      overridden("{}", {"network.links.bandwidth=80Mbps", "training.steps=7",
                        "training.optimizer.betas=[0.5, 0.6]", "name=2024",
                        "network.transport.idle_restart=false", "data.corpus=./a=b.txt"});
  EXPECT_EQ(document["network"]["links"]["bandwidth"], "80Mbps");
  EXPECT_EQ(document["training"]["steps"], 7);
  EXPECT_EQ(document["training"]["optimizer"]["betas"], Json::parse("[0.5, 0.6]"));
  EXPECT_EQ(document["name"], "2024");  // a text field stays text
  EXPECT_EQ(document["network"]["transport"]["idle_restart"], false);
  EXPECT_EQ(document["data"]["corpus"], "./a=b.txt");
}

TEST(Set, TheLastAssignmentWinsAndNullRemoves) {
  const Json document =
      overridden("{}", {"training.steps=7", "training.steps=8", "seed=3", "seed=null"});
  EXPECT_EQ(document["training"]["steps"], 8);
  EXPECT_FALSE(document.contains("seed"));
}

TEST(Set, ReachesListElementsByIndex) {
  const std::string ranks = R"({"devices": {"ranks": [{"rank": 0}, {"rank": 1}]}})";
  EXPECT_EQ(overridden(ranks, {"devices.ranks.1.slowdown=2"})["devices"]["ranks"][1]["slowdown"],
            2);
  EXPECT_EQ(overridden(ranks, {"devices.ranks.2.rank=3"})["devices"]["ranks"][2]["rank"], 3);
  EXPECT_EQ(overridden(ranks, {"devices.ranks.0=null"})["devices"]["ranks"].size(), 1u);
  EXPECT_EQ(overridden("{}", {"training.targets.0=3.5"})["training"]["targets"],
            Json::parse("[3.5]"));
  EXPECT_EQ(overridden("{}", {"network.overrides.0.from=1"})["network"]["overrides"],
            Json::parse(R"([{"from": 1}])"));
  EXPECT_THAT(refused(ranks, {"devices.ranks.3.rank=3"}), HasSubstr("index 3 of 2 elements"));
  EXPECT_THAT(refused(ranks, {"devices.ranks.first.rank=3"}), HasSubstr("the index of an element"));
}

TEST(Set, ReplacesAWordByAnObjectWhereThePathAsksForOne) {
  EXPECT_EQ(overridden(R"({"data": {"tokenizer": "byte"}})",
                       {"data.tokenizer.sentencepiece.vocabulary=512"})["data"]["tokenizer"],
            Json::parse(R"({"sentencepiece": {"vocabulary": 512}})"));
  EXPECT_EQ(overridden(R"({"devices": {"timing": "measured"}})",
                       {"devices.timing.device=L4"})["devices"]["timing"],
            Json::parse(R"({"device": "L4"})"));
}

TEST(Set, ANetworkPresetReplacesThePlaceButNotTheRest) {
  // As `replay` does with the resolved scenario of a run, in which every link field is explicit.
  const Json resolved = to_json(
      *parse_patched(R"({"parallel": {"pipeline": 2}, "network": {"topology": "mesh", "seed": 4,
      "preset": "home-80m", "links": {"loss": 0.1}}})")
           .scenario);
  const Result result = parse_scenario(
      resolved.dump(), "scenario.json",
      std::vector<std::string>{"network.links.latency=1ms", "network.preset=datacenter-100g"});
  ASSERT_TRUE(result.ok()) << result.text();
  const sim::NetworkConfig& network = result.scenario->network;
  EXPECT_EQ(network.links.bandwidth.count, 100'000'000'000u);
  EXPECT_EQ(network.links.latency.count, 1'000'000);  // set on the command line, wherever it stood
  EXPECT_EQ(network.links.loss, 0);
  EXPECT_EQ(network.transport.congestion_control, sim::CongestionControl::lossless);
  EXPECT_EQ(network.topology, sim::Topology::mesh);
  EXPECT_EQ(network.seed, 4u);
}

TEST(Set, AModelPresetReplacesExplicitSizes) {
  const Json document =
      overridden(R"({"model": {"layers": 4, "width": 64, "context": 32, "vocabulary": 300}})",
                 {"model.preset=llama-7m", "model.layers=6"});
  EXPECT_EQ(
      document["model"],
      Json::parse(R"({"preset": "llama-7m", "context": 32, "vocabulary": 300, "layers": 6})"));
}

TEST(Set, AMethodDropsTheOptionsItDoesNotHave) {
  const std::string subspace =
      R"({"compression": {"pipeline": {"method": "subspace", "ratio": 8, "wire": "bf16"}}})";
  EXPECT_EQ(overridden(subspace, {"compression.pipeline.method=none"})["compression"]["pipeline"],
            Json::parse(R"({"method": "none", "wire": "bf16"})"));
  EXPECT_EQ(overridden(subspace, {"compression.pipeline.rank=16"})["compression"]["pipeline"],
            Json::parse(R"({"method": "subspace", "wire": "bf16", "rank": 16})"));
  EXPECT_EQ(overridden("{}", {"compression.pipeline.ratio=4",
                              "compression.pipeline.method=subspace"})["compression"]["pipeline"],
            Json::parse(R"({"method": "subspace", "ratio": 4})"));
}

// A method, "none" among them, says what becomes of the gradients, too, unless they are given beside it in any order.
TEST(Set, AMethodIsThatOfBothDirections) {
  const std::string coded =
      R"({"compression": {"pipeline": {"method": "none", "backward": {"method": "quantize", "bits": 4}}}})";
  EXPECT_EQ(overridden(coded, {"compression.pipeline.method=none"})["compression"]["pipeline"],
            Json::parse(R"({"method": "none"})"));
  EXPECT_EQ(overridden(coded, {"compression.pipeline.backward.method=cast",
                               "compression.pipeline.method=topk",
                               "compression.pipeline.keep=4"})["compression"]["pipeline"],
            Json::parse(R"({"method": "topk", "backward": {"method": "cast"}, "keep": 4})"));
}

TEST(Set, NamesTheNearestKey) {
  EXPECT_THAT(refused("{}", {"network.links.bandwith=80Mbps"}),
              testing::AllOf(HasSubstr("--set \"network.links.bandwith=80Mbps\""),
                             HasSubstr("/network/links/bandwith"),
                             HasSubstr("did you mean \"bandwidth\"?"), HasSubstr("latency")));
  EXPECT_THAT(refused("{}", {"netwrok.links.bandwidth=80Mbps"}),
              HasSubstr("did you mean \"network\"?"));
  EXPECT_THAT(refused("{}", {"training.steps.more=1"}), HasSubstr("ends one key earlier"));
}

TEST(Set, RefusesWhatIsNoAssignment) {
  for (const std::string text :
       {"", "=", "training.steps", "=5", ".seed=1", "seed.=1", "a..b=1", "seed=\xff", "\xff=1"})
    refused("{}", {text});
  refused("{}", {std::string(100'000, 'a') + "=1"});
  std::string deep = "a";
  for (int i = 0; i < 1000; ++i) deep += ".a";
  refused("{}", {deep + "=1"});
}

TEST(Set, ProblemsOfTheValuePointAtTheCommandLine) {
  const Result result = parse_patched(R"({"network": {"links": {"bandwidth": "1Gbps"}}})",
                                      {"network.links.bandwidth=fast", "training.batch=9"});
  ASSERT_EQ(result.problems.size(), 2u) << result.text();
  EXPECT_THAT(result.problems[0].text(),
              HasSubstr("--set \"network.links.bandwidth=fast\": /network/links/bandwidth"));
  EXPECT_THAT(result.problems[1].text(), HasSubstr("--set \"training.batch=9\": /training/batch"));
  EXPECT_EQ(result.problems[0].line, 0);
}

TEST(Set, DoesNotMakeAScenarioOfSomethingElse) {
  EXPECT_FALSE(
      parse_scenario("[]", "test.json", std::vector<std::string>{"model.preset=llama-1m"}).ok());
  Json list = Json::array();
  EXPECT_EQ(apply_overrides(list, std::vector<std::string>{"seed=1"}).size(), 1u);
  EXPECT_EQ(list, Json::array());
}

TEST(Set, KeepsTheOtherProblemsOfTheFile) {
  const Result result = parse_patched(R"({"sed": 1})", {"nosuch=1"});
  EXPECT_EQ(result.problems.size(), 2u) << result.text();
}

}  // namespace
}  // namespace strait::scenario
