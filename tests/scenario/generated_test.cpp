// The files that are generated from the tables are committed; here they are compared with what the
// tables say now.
#include "sim/scenario/scenario.h"
#include "tests/scenario/generated_file.h"

namespace strait::scenario {
namespace {

TEST(Generated, SchemaFileIsCurrent) {
  expect_current("scenarios/schema/scenario.schema.json", schema().dump(2) + "\n");
}

TEST(Generated, ReferenceIsCurrent) { expect_current("docs/scenario.md", reference_markdown()); }

}  // namespace
}  // namespace strait::scenario
