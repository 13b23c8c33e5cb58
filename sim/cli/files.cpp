#include "sim/cli/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>
#include <thread>

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

fs::path find_run_directory(const std::string& out, const std::string& name) {
  const fs::path directory = out.empty() ? fs::path("runs") / name : fs::path(out);
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
    : descriptor_(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ < 0)
    throw std::runtime_error(
        fmt::format("{}: cannot be opened: {}", directory.string(), std::strerror(errno)));
  const auto end = std::chrono::steady_clock::now() + patience;
  while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    if (std::chrono::steady_clock::now() > end) {
      ::close(descriptor_);
      throw WrongInput{
          fmt::format("{}: another process is writing into this directory", directory.string())};
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

DirectoryLock::~DirectoryLock() { ::close(descriptor_); }

}  // namespace strait::cli
