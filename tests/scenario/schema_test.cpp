// The JSON Schema agrees with the parser, judged by an independent validator (python3-jsonschema).
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "sim/scenario/document.h"
#include "tests/scenario/documents.h"
#include "tests/scenario/generated_file.h"

namespace strait::scenario {
namespace {

TEST(Schema, AcceptsWhatTheParserAccepts) {
  std::vector<Json> documents = canonical_documents();
  for (const std::string& patch : good_patches()) documents.push_back(patched(patch));
  const auto answers = judge(schema(), documents);
  if (!answers) GTEST_SKIP() << "python3-jsonschema is not installed";
  for (size_t i = 0; i < documents.size(); ++i) {
    EXPECT_TRUE(parse_scenario(documents[i].dump(), "test.json").ok()) << documents[i];
    EXPECT_EQ((*answers)[i], "yes\n") << documents[i];
  }
}

TEST(Schema, RefusesWhatTheParserRefusesButForRulesBetweenFields) {
  std::vector<Json> documents;
  const std::vector<Misuse> cases = misuses();
  for (const Misuse& misuse : cases) documents.push_back(patched(misuse.patch));
  const auto answers = judge(schema(), documents);
  if (!answers) GTEST_SKIP() << "python3-jsonschema is not installed";
  for (size_t i = 0; i < documents.size(); ++i) {
    const Misuse& misuse = cases[i];
    EXPECT_EQ((*answers)[i].substr(0, 2), misuse.structural ? "no" : "ye") << misuse.patch << "\n"
                                                                           << (*answers)[i];
  }
}

// All scenarios that are shipped: they parse, and the schema accepts them.
TEST(ShippedScenarios, AreValid) {
  const std::filesystem::path folder = STRAIT_SOURCE_DIR "/scenarios";
  std::vector<Json> documents;
  std::vector<std::string> paths;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
    const auto folder_name = entry.path().parent_path().filename();
    if (entry.path().extension() != ".json" || folder_name == "schema" || folder_name == "sweeps")
      continue;
    const Result result = load_scenario(entry.path().string());
    EXPECT_TRUE(result.ok()) << result.text();
    std::ifstream file(entry.path());
    documents.push_back(Json::parse(file, nullptr, false, true));
    paths.push_back(entry.path().string());
  }
  const auto answers = judge(schema(), documents);
  if (!answers) GTEST_SKIP() << "python3-jsonschema is not installed";
  for (size_t i = 0; i < documents.size(); ++i) EXPECT_EQ((*answers)[i], "yes\n") << paths[i];
}

}  // namespace
}  // namespace strait::scenario
