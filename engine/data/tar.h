// Lists the regular files of a tar archive without unpacking it: POSIX ustar, pax and GNU long
// names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace strait {

struct TarFile {
  std::string name;
  std::string_view content;  // points into the archive
};

// In archive order; directories, links and devices are left out. Throws std::runtime_error with
// `name` and the offset for a damaged archive. A truncated one is damaged: the end is two empty
// blocks.
std::vector<TarFile> list_tar(std::string_view archive, const std::string& name);

}  // namespace strait
