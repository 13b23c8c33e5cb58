// strait schema scenario: the JSON Schema of a scenario file.
#include <fmt/format.h>

#include "sim/cli/commands.h"
#include "sim/scenario/scenario.h"

namespace strait::cli {

int schema_command(const std::string& what) {
  if (what != "scenario")
    throw WrongInput{fmt::format("strait schema: found \"{}\"; allowed: scenario", what)};
  fmt::print("{}\n", scenario::schema().dump(2));
  return kDone;
}

}  // namespace strait::cli
