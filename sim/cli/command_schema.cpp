// strait schema scenario|sweep: the JSON Schema of an input file.
#include <fmt/format.h>

#include "sim/cli/commands.h"
#include "sim/scenario/scenario.h"
#include "sim/sweep/sweep_file.h"

namespace strait::cli {

int schema_command(const std::string& what) {
  if (what != "scenario" && what != "sweep")
    throw WrongInput{fmt::format("strait schema: found \"{}\"; allowed: scenario, sweep", what)};
  fmt::print("{}\n", (what == "sweep" ? sweep::schema() : scenario::schema()).dump(2));
  return kDone;
}

}  // namespace strait::cli
