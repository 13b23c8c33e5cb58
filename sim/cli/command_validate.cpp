// strait validate FILE.json...: every error of every file, with its JSON pointer.
#include <fmt/format.h>

#include <cstdio>

#include "sim/cli/commands.h"
#include "sim/cli/load.h"

namespace strait::cli {

int validate_command(const std::vector<std::string>& files) {
  int wrong = 0;
  for (const std::string& file : files) {
    try {
      load(file, {});
      fmt::print("{}: valid\n", file);
    } catch (const WrongInput& e) {
      fmt::print(stderr, "{}\n", e.text);
      ++wrong;
    }
  }
  return wrong == 0 ? kDone : kWrongInput;
}

}  // namespace strait::cli
