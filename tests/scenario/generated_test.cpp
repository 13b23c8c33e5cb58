// The files that are generated from the tables are committed; here they are compared with what the
// tables say now. With STRAIT_WRITE_GENERATED=1 in the environment the test writes them instead.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "sim/scenario/scenario.h"

namespace strait::scenario {
namespace {

void expect_current(const std::string& path, const std::string& text) {
  const std::string full = std::string(STRAIT_SOURCE_DIR) + "/" + path;
  if (std::getenv("STRAIT_WRITE_GENERATED") != nullptr) {
    std::ofstream(full, std::ios::binary) << text;
    GTEST_SKIP() << "wrote " << full;
  }
  std::ifstream file(full, std::ios::binary);
  const std::string committed{std::istreambuf_iterator<char>(file), {}};
  EXPECT_TRUE(committed == text) << path
                                 << " is not what the tables say; run this test with "
                                    "STRAIT_WRITE_GENERATED=1 and look at the difference";
}

TEST(Generated, SchemaFileIsCurrent) {
  expect_current("scenarios/schema/scenario.schema.json", schema().dump(2) + "\n");
}

TEST(Generated, ReferenceIsCurrent) { expect_current("docs/scenario.md", reference_markdown()); }

}  // namespace
}  // namespace strait::scenario
