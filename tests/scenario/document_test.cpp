// The JSON layer: line numbers, duplicate keys, comments, and hostile input that must end in a
// problem.
#include "sim/scenario/document.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/scenario/documents.h"

namespace strait::scenario {
namespace {

using testing::HasSubstr;

std::string problems_of(const std::string& text) {
  std::vector<Problem> problems;
  read_document(text, "f.json", problems);
  std::string all;
  for (const Problem& problem : problems) all += problem.text() + "\n";
  return all;
}

TEST(Document, KnowsTheLineOfEveryValue) {
  std::vector<Problem> problems;
  const auto document =
      read_document("{\n\"a\": 1,\n\"b\": [10,\n  20\n  , {\"c\":\n null}]\n}", "f.json", problems);
  ASSERT_TRUE(document);
  const auto line = [&](const Path& path) { return document->problem(path, "", "").line; };
  EXPECT_EQ(line({}), 1);
  EXPECT_EQ(line({"a"}), 2);
  EXPECT_EQ(line({"b", "0"}), 3);
  EXPECT_EQ(line({"b", "1"}), 4);
  EXPECT_EQ(line({"b", "2"}), 5);
  EXPECT_EQ(line({"b", "2", "c"}), 5);
  EXPECT_EQ(line({"b", "2", "missing"}), 5);
  EXPECT_EQ(line({"missing"}), 1);
}

TEST(Document, PointersEscapeAsRfc6901Says) {
  EXPECT_EQ(to_pointer({"a/b", "m~n", "0", ""}), "/a~1b/m~0n/0/");
}

TEST(Document, CommentsAndAByteOrderMarkAreSkipped) {
  std::vector<Problem> problems;
  const auto document =
      read_document("\xEF\xBB\xBF// one\n{ /* two\n */ \"a\": \"// text\" }", "f.json", problems);
  ASSERT_TRUE(document) << problems_of("");
  EXPECT_EQ(document->root["a"], "// text");
  EXPECT_EQ(document->problem({"a"}, "", "").line, 3);
}

TEST(Document, SyntaxErrorsNameLineAndExpectation) {
  EXPECT_THAT(problems_of(""), HasSubstr("f.json:1: /: found"));
  EXPECT_THAT(problems_of("{\n\"a\": 1,\n}"), HasSubstr("f.json:3: "));
  EXPECT_THAT(problems_of("{\"a\": {\"b\": tru}}"), HasSubstr("/a/b"));
  EXPECT_THAT(problems_of("{\"a\": 1} {}"), HasSubstr("f.json:1: "));
  EXPECT_THAT(problems_of("{\"a\": 1e999}"), HasSubstr("beyond the range"));
  EXPECT_THAT(problems_of("{'a': 1}"), HasSubstr("allowed: "));
  EXPECT_THAT(problems_of("{\"a\": NaN}"), HasSubstr("f.json"));
}

TEST(Document, DuplicateKeysAreProblemsAtAnyDepthAndTheFirstStands) {
  std::vector<Problem> problems;
  const auto document =
      read_document("{\"a\": {\"x\": 1,\n \"x\": {\"y\": [1, {\"y\": 2, \"y\": 3}]}},\n\"a\": 7}",
                    "f.json", problems);
  ASSERT_TRUE(document);
  EXPECT_EQ(document->root.dump(), R"({"a":{"x":1}})");
  ASSERT_EQ(problems.size(), 2u);
  EXPECT_EQ(problems[0].pointer, "/a/x");
  EXPECT_EQ(problems[0].line, 2);
  EXPECT_EQ(problems[1].pointer, "/a");
  EXPECT_EQ(problems[1].line, 3);
}

// Everything below must return problems; the test is that it returns, under the sanitizers, too.
TEST(HostileInput, IsAProblemNeverACrash) {
  const std::vector<std::string> texts = {
      std::string(100'000, '['),
      std::string(100'000, '{'),
      std::string("{\"a\":") + std::string(40, '[') + std::string(40, ']') + "}",
      std::string(2 << 20, ' '),
      std::string("{\"model\": \"\xff\xfe\"}"),
      std::string("{\"\xc0\xaf\": 1}"),
      std::string("{\"a\": \"\\ud800\"}"),
      std::string("\0\0\0", 3),
      std::string("{\"a\0b\": 1}", 10),
      "{\"seed\": 99999999999999999999999999}",
      "{\"seed\": -99999999999999999999999999}",
      "{\"training\": {\"steps\": 1e308}}",
      "{\"training\": {\"steps\": -0.0}}",
      "[]",
      "null",
      "3",
      "\"text\"",
      "{",
      "/* never closed",
      "{\"" + std::string(500'000, 'k') + "\": {\"" + std::string(400'000, 'l') + "\": 1}}",
      "{\"network\": {\"links\": {\"bandwidth\": \"" + std::string(900'000, '9') + "Mbps\"}}}",
  };
  for (const std::string& text : texts) {
    const Result result = parse_scenario(text, "hostile.json");
    EXPECT_FALSE(result.ok()) << text.substr(0, 60);
    EXPECT_FALSE(result.problems.empty()) << text.substr(0, 60);
    EXPECT_LT(result.text().size(), 100'000u) << text.substr(0, 60);
    EXPECT_TRUE(valid_utf8(result.text())) << text.substr(0, 60);
  }
}

TEST(HostileInput, EveryTruncationAndByteFlipOfAScenarioReturns) {
  const std::string text = canonical_documents()[0].dump(1);
  for (size_t i = 0; i < text.size(); i += 3) {
    EXPECT_FALSE(parse_scenario(text.substr(0, i), "cut.json").ok());
    std::string flipped = text;
    flipped[i] = static_cast<char>(flipped[i] ^ 0x15);
    const Result result = parse_scenario(flipped, "flipped.json");
    EXPECT_EQ(result.ok(), result.problems.empty());
  }
}

TEST(HostileInput, ManyElementsAreReadInReasonableTime) {
  std::string targets = "1";
  for (int i = 0; i < 200'000; ++i) targets += ",1";
  const Result result = parse_scenario(
      R"({"model": {"preset": "llama-1m"}, "data": {"corpus": "austen"}, "training": {"steps": 1, "targets": [)" +
          targets + "]}}",
      "long.json");
  EXPECT_TRUE(result.ok()) << result.text();
}

}  // namespace
}  // namespace strait::scenario
