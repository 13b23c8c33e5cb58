#include "sim/cli/files.h"

#include <fmt/format.h>

#include "sim/cli/commands.h"

namespace strait::cli {

namespace fs = std::filesystem;

fs::path make_run_directory(const std::string& out, const std::string& name) {
  fs::path directory = out;
  if (!out.empty()) {
    if (fs::exists(directory) && (!fs::is_directory(directory) || !fs::is_empty(directory))) {
      throw WrongInput{fmt::format(
          "--out {}: it exists and is not empty; allowed: a new or an empty directory", out)};
    }
    fs::create_directories(directory / "record");
    return directory;
  }
  fs::create_directories("runs");
  for (int i = 1;; ++i) {
    directory = fs::path("runs") / (i == 1 ? name : fmt::format("{}-{}", name, i));
    if (fs::create_directory(directory))
      break;  // atomic: two runs that start together get two directories
  }
  fs::create_directory(directory / "record");
  return directory;
}

}  // namespace strait::cli
