// Making and removing temporary directories (temporary_directory.h).
#include "sim/cli/temporary_directory.h"

#include <stdlib.h>

#include <cerrno>
#include <system_error>

namespace strait::cli {

TemporaryDirectory::TemporaryDirectory(const std::string& purpose) {
  std::string pattern =
      (std::filesystem::temp_directory_path() / ("strait-" + purpose + "-XXXXXX")).string();
  if (mkdtemp(pattern.data()) == nullptr)
    throw std::system_error(errno, std::generic_category(), "cannot make " + pattern);
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

}  // namespace strait::cli
