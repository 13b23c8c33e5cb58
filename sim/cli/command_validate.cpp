// strait validate FILE.json...: every error of every file, with its JSON pointer.
#include <fmt/format.h>

#include <cstdio>

#include "sim/cli/commands.h"
#include "sim/cli/load.h"
#include "sim/sweep/sweep_file.h"

namespace strait::cli {
namespace {

// Every point of a sweep is checked like a scenario.
std::string check_sweep(const std::string& file) {
  const LoadedSweep sweep = load_sweep(file);
  for (const sweep::Point& point : sweep.points)
    with_shape(point.scenario, fmt::format("{} (point {})", file, point.name));
  return fmt::format("a sweep of {} points", sweep.points.size());
}

}  // namespace

int validate_command(const std::vector<std::string>& files) {
  int wrong = 0;
  for (const std::string& file : files) {
    try {
      std::string what;
      if (sweep::looks_like_sweep(file))
        what = ", " + check_sweep(file);
      else
        load(file, {});
      fmt::print("{}: valid{}\n", file, what);
    } catch (const WrongInput& e) {
      fmt::print(stderr, "{}\n", e.text);
      ++wrong;
    }
  }
  return wrong == 0 ? kDone : kWrongInput;
}

}  // namespace strait::cli
