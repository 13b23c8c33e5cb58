// AptPackages: two attempts to download, the second with fresh package lists of its own, then
// unpacking.
#include "engine/data/package.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <stdexcept>

#include "engine/data/files.h"
#include "engine/data/process.h"
#include "sim/record/sha256.h"

namespace strait {

namespace fs = std::filesystem;

namespace {

void tell(const Notice& notice, const std::string& text) {
  if (notice) notice(text);
}

// Package lists and caches inside `folder`; the sandbox user could not write there.
std::vector<std::string> private_lists(const fs::path& folder) {
  return {"-o", "Dir::State::lists=" + (folder / "lists").string(), "-o",
          "Dir::Cache=" + (folder / "cache").string()};
}

std::vector<std::string> apt(const std::string& command, const std::vector<std::string>& options,
                             const std::vector<std::string>& names) {
  std::vector<std::string> words = {"apt-get", "-q", "-o", "APT::Sandbox::User=root"};
  words.insert(words.end(), options.begin(), options.end());
  words.push_back(command);
  words.insert(words.end(), names.begin(), names.end());
  return words;
}

// The lines in which apt says what went wrong, at most four of them.
std::string complaint(const ProcessResult& result) {
  std::string text;
  int lines = 0;
  for (size_t begin = 0; begin < result.errors.size() && lines < 4;) {
    const size_t end = std::min(result.errors.find('\n', begin), result.errors.size());
    const auto line = result.errors.substr(begin, end - begin);
    if (line.starts_with("E:") || line.starts_with("W:")) text += "\n  " + line, ++lines;
    begin = end + 1;
  }
  return text;
}

void download(const std::vector<std::string>& names, const fs::path& folder, const Notice& notice) {
  const auto first = run_process(apt("download", {}, names), folder);
  if (first.status == 0) return;
  if (first.status == 127) {
    throw std::runtime_error(
        "apt-get was not found. The named corpora are made of Debian packages: fetch them on a "
        "Debian system and copy its cache folder, or give the path of a text file instead");
  }
  tell(notice, "apt could not download with the package lists it has; getting fresh lists");
  const auto lists = private_lists(folder);
  fs::create_directories(folder / "lists" / "partial");
  fs::create_directories(folder / "cache" / "archives" / "partial");
  const auto update = run_process(apt("update", lists, {}), folder);
  const auto second = run_process(apt("download", lists, names), folder);
  if (second.status == 0) return;
  throw std::runtime_error(fmt::format(
      "cannot download {}:{}{}\nThese packages are in Debian 12 (bookworm), main. Check the "
      "network, and that apt's sources name Debian 12; or fetch the corpus on another machine "
      "and copy its cache folder here; or give the path of a text file as the corpus",
      fmt::join(names, ", "), complaint(update), complaint(second)));
}

std::string field(const fs::path& file, const char* name) {
  const auto result = run_process({"dpkg-deb", "-f", file.string(), name}, file.parent_path());
  if (result.status != 0) {
    throw std::runtime_error(
        fmt::format("{}: not a readable Debian package: {}", file.string(), result.errors));
  }
  return result.output.substr(0, result.output.find('\n'));
}

}  // namespace

std::vector<Package> AptPackages::fetch(const std::vector<std::string>& names,
                                        const fs::path& folder, const Notice& notice) {
  tell(notice, fmt::format("downloading {}", fmt::join(names, ", ")));
  download(names, folder, notice);
  std::map<std::string, Package> packages;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.path().extension() != ".deb") continue;
    Package package{.name = field(entry.path(), "Package"),
                    .version = field(entry.path(), "Version"),
                    .sha256 = sha256_hex(MappedFile(entry.path()).bytes()),
                    .content = {}};
    package.content = folder / package.name;
    tell(notice, fmt::format("unpacking {} {}", package.name, package.version));
    const auto result =
        run_process({"dpkg-deb", "-x", entry.path().string(), package.content.string()}, folder);
    if (result.status != 0) {
      throw std::runtime_error(
          fmt::format("cannot unpack {}: {}", entry.path().string(), result.errors));
    }
    packages.emplace(package.name, package);
  }
  std::vector<Package> ordered;
  for (const auto& name : names) {
    const auto found = packages.find(name);
    if (found == packages.end()) {
      throw std::runtime_error(
          fmt::format("apt-get download left no package {} in {}", name, folder.string()));
    }
    ordered.push_back(found->second);
  }
  return ordered;
}

}  // namespace strait
