// The form of sweep files: what is refused and how, the way back to JSON, and that the published
// schema says the same.
#include "sim/sweep/sweep_file.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <iterator>

#include "tests/scenario/generated_file.h"
#include "tests/sweep/sweep_text.h"

namespace strait::sweep {
namespace {

using ::testing::HasSubstr;

// The rest of a sweep beside its base, what is said about it, and whether the schema can see it.
struct Misuse {
  const char* rest;
  const char* text;
  bool structural = true;
};

const Misuse misuses[] = {
    {R"("axes": {})", "/axes: found an object; allowed: an object of axes, at least one"},
    {R"("axes": [])", "/axes: found an empty list"},
    {R"("name": "x")", "no key \"axes\""},
    {R"("axes": {"seed": [1]}, "axis": {})", "the unknown key \"axis\"; did you mean \"axes\"?"},
    {R"("axes": {"seed": []})", "/axes/seed: found an empty list; allowed: a list of values"},
    {R"("axes": {"seed": 1})", "/axes/seed: found the number 1"},
    {R"("axes": {"network.links.bandwith": ["1Gbps"]})", "did you mean \"bandwidth\"?", false},
    {R"("axes": {"method": ["none", "subspace"]})", "a path that no scenario has", false},
    {R"("axes": {"seed=1": [1]})", "a dotted path without \"=\"", false},
    {R"("axes": {"m": [{"label": "x"}]})", "no key \"set\""},
    {R"("axes": {"m": [{"label": "x", "set": {}}]})", "an object of dotted paths"},
    {R"("axes": {"m": [{"label": "x", "sets": {"seed": 1}}]})", "did you mean \"set\"?"},
    {R"("axes": {"m": [{"label": "x", "set": {"seed": 1}}, "y"]})",
     "/axes/m/1: found the text \"y\""},
    {R"("axes": {"m": [{"label": "x", "set": {"seed": 1}}, {"label": "x", "set": {"seed": 2}}]})",
     "/axes/m/1: found \"x\" a second time", false},
    {R"("axes": {"seed": [1, 1]})", "/axes/seed/1: found \"1\" a second time", false},
    {R"("axes": {"status": [{"label": "x", "set": {"seed": 1}}]})", "a column of runs.csv", false},
    {R"("axes": {"time_to_5_s": [{"label": "x", "set": {"seed": 1}}]})",
     "could be a column of runs.csv", false},
    {R"("axes": {"seed": [{"label": "x", "set": {"seed": 1}}]})", "labelled values for \"seed\"",
     false},
    {R"("axes": {"seed": [1], "m": [{"label": "x", "set": {"seed": 2}}]})",
     "an axis that sets \"seed\", as \"seed\" does", false},
    {R"("axes": {"network.seed": [1], "network": [{"model": "fluid"}]})",
     "an axis that sets \"network\", as \"network.seed\" does", false},
    {R"("axes": {"seed": [1, 2], "network.seed": [1]}, "zip": [["seed", "network.seed"]])",
     "1 values of \"network.seed\"; allowed: 2 values", false},
    {R"("axes": {"seed": [1]}, "zip": [["seed", "sed"]])",
     "\"sed\", which is no axis; did you mean \"seed\"?", false},
    {R"("axes": {"seed": [1]}, "zip": [["seed"]])",
     "/zip/0: found a list; allowed: a list of at least 2, each"},
    {R"("axes": {"seed": [1]}, "zip": [["seed", "seed"]])",
     "a second time; allowed: each axis once", false},
    {R"("axes": {"seed": [1]}, "exclude": [{"sed": 1}])", "did you mean \"seed\"?", false},
    {R"("axes": {"seed": [1]}, "exclude": [{"seed": 2}])", "\"2\", which is no value of this axis",
     false},
    {R"("axes": {"seed": [1]}, "exclude": [{}])", "an object of axes, at least one"},
    {R"("axes": {"seed": [1]}, "exclude": {"seed": 1})",
     "/exclude: found an object; allowed: a list"},
};

TEST(SweepFile, EveryMisuseIsNamedWithItsPlace) {
  for (const Misuse& misuse : misuses) {
    const SweepResult result = parse_rest(misuse.rest);
    EXPECT_FALSE(result.ok()) << misuse.rest;
    EXPECT_THAT(result.text(), HasSubstr(misuse.text)) << misuse.rest;
    EXPECT_THAT(result.text(), HasSubstr("folder/sweep.json:")) << misuse.rest;
  }
}

TEST(SweepFile, HasBounds) {
  const auto many = [](size_t count, const std::function<std::string(size_t)>& item) {
    std::string text;
    for (size_t i = 0; i < count; ++i) text += (i == 0 ? "" : ", ") + item(i);
    return text;
  };
  const auto axis = [](size_t i) {
    return fmt::format(R"("a{}": [{{"label": "x", "set": {{"devices.ranks.{}.slowdown": 2}}}}])", i,
                       i);
  };
  EXPECT_TRUE(parse_rest("\"axes\": {" + many(max_axes, axis) + "}").ok());
  EXPECT_THAT(parse_rest("\"axes\": {" + many(max_axes + 1, axis) + "}").text(),
              HasSubstr("/axes: found 33 axes; allowed: at most 32"));
  const auto number = [](size_t i) { return std::to_string(i); };
  EXPECT_THAT(parse_rest("\"axes\": {\"seed\": [" + many(max_points + 1, number) + "]}").text(),
              HasSubstr("/axes/seed: found 10001 values; allowed: at most 10000"));
  const auto entry = [](size_t) { return std::string("{\"seed\": 1}"); };
  EXPECT_THAT(parse_rest("\"axes\": {\"seed\": [1]}, \"exclude\": [" +
                         many(max_exclusions + 1, entry) + "]")
                  .text(),
              HasSubstr("/exclude: found 1001 entries; allowed: at most 1000"));
  // Values that no axis has, each to be compared with all: no more is said of them than is shown.
  const SweepResult result = parse_rest(
      "\"axes\": {\"seed\": [" + many(max_points, number) + "]}, \"exclude\": [{\"seed\": [" +
      many(20'000, [](size_t i) { return std::to_string(i + 10'000); }) + "]}]");
  EXPECT_EQ(result.problems.size(), 101U);
}

TEST(SweepFile, NeedsABaseThatCanBeRead) {
  EXPECT_THAT(parse("{\"axes\": {\"seed\": [1]}}").text(), HasSubstr("no key \"base\""));
  EXPECT_THAT(parse("{\"base\": 3, \"axes\": {\"seed\": [1]}}").text(),
              HasSubstr("/base: found the number 3; allowed: the path of a scenario file"));
  EXPECT_THAT(parse("{\"base\": \"b.json\", \"axes\": {\"seed\": [1]}}").text(),
              HasSubstr("/base: found \"folder/b.json\": a file that cannot be opened"));
}

TEST(SweepFile, IsNamedAfterItsFileUnlessItSaysOtherwise) {
  EXPECT_EQ(parse_rest("\"axes\": {\"seed\": [1]}").sweep->file.name, "sweep");
  EXPECT_EQ(parse_rest("\"name\": \"x\", \"axes\": {\"seed\": [1]}").sweep->file.name, "x");
  // Names stand in scripts, after "#".
  const std::string text = "{\"base\": {}, \"axes\": {\"seed\": [1]}}";
  EXPECT_EQ(parse_sweep(text, "a\nexit 1\n.json", load_base).sweep->file.name, "sweep");
}

TEST(SweepFile, WithItsBaseInlineMeansTheSame) {
  const std::string rest =
      "\"axes\": {" + methods + ", " + bandwidths +
      ", \"seed\": [1, 2]}, \"exclude\": [{\"seed\": 2, \"method\": \"none\"}]";
  const SweepResult written = parse_rest(rest);
  ASSERT_TRUE(written.ok()) << written.text();
  const Json kept = to_json(*written.sweep);
  const SweepResult again = parse_sweep(kept.dump(), "elsewhere/sweep.json", load_base);
  ASSERT_TRUE(again.ok()) << again.text();
  EXPECT_EQ(to_json(*again.sweep), kept);
  const Points first = expand(*written.sweep), second = expand(*again.sweep);
  ASSERT_EQ(first.points.size(), 6U);
  ASSERT_EQ(second.points.size(), 6U);
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(first.points[i].name, second.points[i].name);
    EXPECT_EQ(scenario::to_json(first.points[i].scenario),
              scenario::to_json(second.points[i].scenario));
  }
}

TEST(SweepFile, TheShippedSchemaIsCurrent) {
  scenario::expect_current("scenarios/schema/sweep.schema.json", schema().dump(2) + "\n");
}

// Judged by an independent validator (python3-jsonschema).
TEST(SweepFile, TheSchemaAgreesWithTheParser) {
  std::vector<Json> documents;
  for (const Misuse& misuse : misuses)
    documents.push_back(Json::parse(std::string("{\"base\": \"base.json\", ") + misuse.rest + "}"));
  documents.push_back(Json::parse(
      "{\"base\": {}, \"axes\": {" + methods + ", " + bandwidths +
      ", \"devices.timing\": [\"measured\", {\"device\": \"H100\"}]}, "
      "\"zip\": [[\"method\", \"network.links.bandwidth\"]], \"exclude\": [{\"method\": "
      "[\"none\"]}]}"));
  const auto answers = scenario::judge(schema(), documents);
  if (!answers) GTEST_SKIP() << "python3-jsonschema is not installed";
  for (size_t i = 0; i < documents.size(); ++i) {
    const bool accepted = i == std::size(misuses) || !misuses[i].structural;
    EXPECT_EQ((*answers)[i] == "yes\n", accepted) << documents[i] << "\n" << (*answers)[i];
  }
}

TEST(ShippedSweeps, AreValid) {
  for (const auto& entry :
       std::filesystem::directory_iterator(STRAIT_SOURCE_DIR "/scenarios/sweeps")) {
    const SweepResult result = load_sweep(entry.path().string());
    ASSERT_TRUE(result.ok()) << result.text();
    const Points points = expand(*result.sweep);
    EXPECT_GT(points.points.size(), 0U) << points.text();
    EXPECT_TRUE(looks_like_sweep(entry.path().string()));
  }
  EXPECT_FALSE(looks_like_sweep(STRAIT_SOURCE_DIR "/scenarios/quickstart.json"));
}

}  // namespace
}  // namespace strait::sweep
