// The grid of a sweep: order, zipped axes, exclusions, names; and errors that point at the axis value
// that caused them.
#include "sim/sweep/points.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/sweep/sweep_text.h"

namespace strait::sweep {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::vector<std::string> names_of(const Points& points) {
  EXPECT_EQ(points.text(), "");
  std::vector<std::string> names;
  for (const Point& point : points.points) names.push_back(point.name);
  return names;
}

TEST(Points, AreTheGridWithTheFirstAxisSlowest) {
  const Points points =
      expand_rest("\"axes\": {" + methods + ", " + bandwidths + ", \"seed\": [1, 2]}");
  EXPECT_THAT(
      names_of(points),
      ElementsAre("none_80Mbps_seed-1", "none_80Mbps_seed-2", "none_1Gbps_seed-1",
                  "none_1Gbps_seed-2", "subspace-8x_80Mbps_seed-1", "subspace-8x_80Mbps_seed-2",
                  "subspace-8x_1Gbps_seed-1", "subspace-8x_1Gbps_seed-2"));
  const Point& last = points.points.back();
  EXPECT_THAT(last.labels, ElementsAre("subspace 8x", "1Gbps", "2"));
  EXPECT_EQ(last.scenario.seed, 2U);
  EXPECT_EQ(last.scenario.compression.pipeline.method(), "subspace");
  EXPECT_EQ(last.scenario.network.links.bandwidth.count, 1'000'000'000U);
  EXPECT_EQ(last.scenario.network.links.latency.count, 20'000'000);  // the preset's
  EXPECT_EQ(last.scenario.name, last.name);
}

TEST(Points, OfZippedAxesGoTogetherAtThePlaceOfTheFirst) {
  const Points points =
      expand_rest("\"axes\": {\"seed\": [1, 2], " + bandwidths +
                  ", \"network.links.latency\": [\"20ms\", \"1ms\"]},"
                  "\"zip\": [[\"network.links.bandwidth\", \"network.links.latency\"]]");
  EXPECT_THAT(names_of(points), ElementsAre("seed-1_80Mbps_20ms", "seed-1_1Gbps_1ms",
                                            "seed-2_80Mbps_20ms", "seed-2_1Gbps_1ms"));
}

TEST(Points, LeaveOutWhatIsExcluded) {
  const std::string axes = "\"axes\": {" + methods + ", " + bandwidths + ", \"seed\": [1, 2]}";
  EXPECT_EQ(names_of(expand_rest(axes + R"(, "exclude": [{"method": "none", "seed": 2}])")).size(),
            6U);
  EXPECT_THAT(names_of(expand_rest(
                  axes + R"(, "exclude": [{"seed": [2]}, {"network.links.bandwidth": "80Mbps"}])")),
              ElementsAre("none_1Gbps_seed-1", "subspace-8x_1Gbps_seed-1"));
  EXPECT_THAT(expand_rest(axes + R"(, "exclude": [{"seed": [1, 2]}])").text(),
              HasSubstr("nothing left of the grid"));
}

TEST(Points, HaveNamesThatDirectoriesCanHaveAndThatDiffer) {
  const Points points = expand_rest(R"("axes": {
    "what": [{"label": "../a b", "set": {"seed": 1}}, {"label": "...a b", "set": {"seed": 2}},
             {"label": "µ", "set": {"seed": 3}}],
    "devices.timing": [{"device": "H100"}, {"device": "L4", "efficiency": 0.5}]})");
  const auto names = names_of(points);
  ASSERT_EQ(names.size(), 6U);
  for (const std::string& name : names) {
    EXPECT_EQ(name.find('/'), std::string::npos) << name;
    EXPECT_NE(name.front(), '.') << name;
  }
  EXPECT_EQ(std::set<std::string>(names.begin(), names.end()).size(), 6U);
}

TEST(Points, OfLabelsThatLeaveNoNameAreNumbered) {
  const Points points = expand_rest(R"("axes": {"a-2": [{"label": "µ", "set": {"seed": 1}},
    {"label": "ν", "set": {"seed": 2}}, {"label": "ξ", "set": {"seed": 3}}]})");
  EXPECT_THAT(names_of(points), ElementsAre("a-2-", "a-2--2", "a-2--3"));
}

TEST(Points, KeepTheNameThatTheSweepSets) {
  const Points points = expand_rest(R"("axes": {"name": ["a", "b"]})");
  EXPECT_THAT(names_of(points), ElementsAre("a", "b"));
  EXPECT_EQ(points.points[1].scenario.name, "b");
}

TEST(PointErrors, PointAtTheAxisValueWithItsLine) {
  EXPECT_EQ(
      expand_rest("\"axes\": {\n\"network.links.bandwidth\": [\"80Mbps\",\n\"90MB\"]}").text(),
      "folder/sweep.json:4: /axes/network.links.bandwidth/1: found the text \"90MB\" (\"MB\" is "
      "a unit of size) (at /network/links/bandwidth); allowed: a bandwidth with its unit, "
      "such as \"80Mbps\" or \"16Gbps\", 1kbps to 100Tbps\n");
  const std::string labelled = expand_rest(
                                   "\"axes\": {\"m\": [\n{\"label\": \"x\", \"set\": "
                                   "{\n\"compression.pipeline.metod\": 1}}]}")
                                   .text();
  EXPECT_THAT(labelled, HasSubstr("folder/sweep.json:4: /axes/m/0/set/compression.pipeline.metod"));
  EXPECT_THAT(labelled, HasSubstr("did you mean \"method\"?"));
}

TEST(PointErrors, OfTheBasePointIntoItsOwnFile) {
  const SweepResult inline_base = parse(
      "{\"base\": {\"model\": {\"preset\": \"llama-1m\"}, \"data\": {\"corpus\": \"austen\"},\n"
      "\"training\": {\"steps\": 0}},\n\"axes\": {\"seed\": [1, 2]}}");
  ASSERT_TRUE(inline_base.ok()) << inline_base.text();
  EXPECT_THAT(expand(*inline_base.sweep).text(),
              HasSubstr("folder/sweep.json:2: /base/training/steps: found the number 0"));
}

TEST(PointErrors, OfACombinationNameThePoint) {
  const std::string text =
      expand_rest(R"("axes": {"training.microbatches": [3], "training.batch": [8, 9]})").text();
  EXPECT_THAT(text, HasSubstr("/axes/training.batch/0"));
  EXPECT_EQ(text.find("/axes/training.batch/1"), std::string::npos);
  EXPECT_THAT(
      expand_rest(R"("axes": {"parallel.pipeline": [4], "devices.ranks": [[{"rank": 9}]]})").text(),
      HasSubstr("/axes/devices.ranks/0: found rank 9 (at /devices/ranks/0/rank)"));
}

TEST(PointErrors, RefuseMoreThanOneNetworkModel) {
  EXPECT_THAT(
      expand_rest(R"("axes": {"network.model": ["fluid", "ideal"]})").text(),
      HasSubstr("/axes/network.model: found the network models fluid and ideal; allowed: one"));
  EXPECT_EQ(expand_rest(R"("axes": {"network.model": ["ideal"]})").points.size(), 1U);
}

TEST(PointErrors, RefuseGridsWithoutEnd) {
  std::string rest = "\"axes\": {";
  for (int a = 0; a < 9; ++a) {
    rest += std::string(a == 0 ? "" : ",") + "\"a" + std::to_string(a) + "\": [";
    for (int v = 0; v < 10; ++v)
      rest += std::string(v == 0 ? "" : ",") + "{\"label\": \"" + std::to_string(v) +
              "\", \"set\": {\"devices.ranks." + std::to_string(a) + ".slowdown\": 2}}";
    rest += "]";
  }
  EXPECT_THAT(expand_rest(rest + "}").text(), HasSubstr("at most 10000 points"));
}

}  // namespace
}  // namespace strait::sweep
