// A fresh directory for what a command needs only while it runs: under the system's temporary directory, gone with the object.
#pragma once

#include <filesystem>
#include <string>

namespace strait::cli {

class TemporaryDirectory {
 public:
  // "<temporary directory>/strait-PURPOSE-XXXXXX". Throws std::system_error that names the path.
  explicit TemporaryDirectory(const std::string& purpose);
  ~TemporaryDirectory();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace strait::cli
