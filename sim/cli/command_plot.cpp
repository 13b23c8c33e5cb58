// strait plot: becomes `python3 -m strait_analysis` (analysis/), with a Python that has what it needs.
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <system_error>

#include "sim/cli/child_process.h"
#include "sim/cli/commands.h"

namespace strait::cli {
namespace {

namespace fs = std::filesystem;

// Finds modules without importing them: a tenth of a second instead of one.
constexpr const char* kHasModules =
    "import importlib.util as u, sys\n"
    "sys.exit(any(u.find_spec(n) is None for n in ('numpy', 'pandas', 'matplotlib')))";

// The folder that holds the package: of an installation, or of the source tree that this was built from.
fs::path find_package() {
  const fs::path installed =
      fs::read_symlink("/proc/self/exe").parent_path() / STRAIT_ANALYSIS_INSTALLED;
  const fs::path source = STRAIT_ANALYSIS_SOURCE;
  for (const fs::path& folder : {installed, source})
    if (fs::exists(folder / "strait_analysis" / "__main__.py")) return folder;
  throw std::runtime_error(
      fmt::format("the package strait_analysis is missing: neither in {} nor in {}",
                  installed.lexically_normal().string(), source.string()));
}

bool has_modules(const std::string& python) {
  try {
    return ChildProcess({python, "-c", kHasModules}, [](const std::string&) {}).wait() == 0;
  } catch (const std::system_error&) {
    return false;
  }
}

// $STRAIT_PYTHON where it is set, else the first of python3 on PATH and the system's that has the packages.
std::string find_python() {
  std::vector<std::string> candidates;
  if (const char* chosen = std::getenv("STRAIT_PYTHON"); chosen && *chosen) {
    const std::string name = chosen;
    candidates = {name.find('/') == std::string::npos ? program_on_path(name) : name};
    if (candidates[0].empty()) candidates[0] = name;
  } else {
    if (std::string python = program_on_path("python3"); !python.empty())
      candidates.push_back(python);
    if (fs::exists("/usr/bin/python3") &&
        (candidates.empty() || candidates[0] != "/usr/bin/python3"))
      candidates.push_back("/usr/bin/python3");
  }
  for (const std::string& python : candidates)
    if (has_modules(python)) return python;
  std::string tried;
  for (const std::string& python : candidates) tried += (tried.empty() ? "" : ", ") + python;
  throw std::runtime_error(
      fmt::format("plot needs Python 3 with numpy, pandas and matplotlib; tried: {}\n"
                  "on Debian: apt-get install python3 python3-pandas python3-matplotlib\n"
                  "elsewhere: set STRAIT_PYTHON to a Python that has them",
                  tried.empty() ? "nothing, there is no python3" : tried));
}

}  // namespace

int plot_command(const PlotArguments& arguments) {
  const fs::path package = find_package();
  const std::string python = find_python();
  std::string search = package.string();
  if (const char* own = std::getenv("PYTHONPATH"); own && *own) search += std::string(":") + own;
  setenv("PYTHONPATH", search.c_str(), 1);
  setenv("PYTHONSAFEPATH", "1", 1);  // a pandas.py in the current folder is none of ours

  // -B: neither a source tree nor an installation is written to.
  std::vector<std::string> words = {python,          "-B", "-m", "strait_analysis", "--format",
                                    arguments.format};
  if (!arguments.out.empty()) words.insert(words.end(), {"--out", arguments.out});
  words.emplace_back("--");
  words.insert(words.end(), arguments.directories.begin(), arguments.directories.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  execv(python.c_str(), argv.data());
  throw std::system_error(errno, std::generic_category(), "cannot start " + python);
}

}  // namespace strait::cli
