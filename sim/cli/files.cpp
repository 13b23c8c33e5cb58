#include "sim/cli/files.h"

#include <fmt/format.h>

#include <algorithm>

#include "sim/cli/commands.h"

namespace strait::cli {

namespace fs = std::filesystem;

std::string directory_name(std::string name) {
  std::replace(name.begin(), name.end(), '/', '-');
  if (name.starts_with(".")) name.front() = '-';
  return name;
}

fs::path make_directory(const std::string& out, const fs::path& parent, const std::string& name) {
  if (!out.empty()) {
    if (fs::exists(out) && (!fs::is_directory(out) || !fs::is_empty(out)))
      throw WrongInput{fmt::format(
          "--out {}: it exists and is not empty; allowed: a new or an empty directory", out)};
    fs::create_directories(out);
    return out;
  }
  fs::create_directories(parent);
  const std::string own = directory_name(name);
  for (int i = 1;; ++i) {
    const fs::path directory = parent / (i == 1 ? own : fmt::format("{}-{}", own, i));
    if (fs::create_directory(directory))
      return directory;  // atomic: two that start together get two directories
  }
}

fs::path make_run_directory(const std::string& out, const std::string& name) {
  const fs::path directory = make_directory(out, "runs", name);
  fs::create_directory(directory / "record");
  return directory;
}

fs::path find_run_directory(const std::string& out, const std::string& name) {
  const fs::path directory = out.empty() ? fs::path("runs") / directory_name(name) : fs::path(out);
  if (fs::exists(directory) && (!fs::is_directory(directory) ||
                                (!fs::is_empty(directory) && !fs::exists(directory / "record")))) {
    throw WrongInput{
        fmt::format("--resume: {} is no run directory; allowed: the directory of an interrupted "
                    "run, or a new one",
                    directory.string())};
  }
  fs::create_directories(directory / "record");
  return directory;
}

DirectoryLock::DirectoryLock(const fs::path& directory, std::chrono::milliseconds patience)
    : lock_(directory, patience) {
  if (!lock_.held())
    throw WrongInput{
        fmt::format("{}: another process is writing into this directory", directory.string())};
}

}  // namespace strait::cli
