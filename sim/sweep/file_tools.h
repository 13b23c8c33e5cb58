// The few file operations of this folder: a lock on a directory, copies whose hash is known, reading
// JSON files that may be anything.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "sim/record/units.h"

namespace strait::sweep {

// An exclusive lock on a directory, gone with the process. Where the file system has no locks,
// there is none.
class DirectoryLock {
 public:
  // Waits up to `patience_s` for others. Check held().
  DirectoryLock(const std::filesystem::path& directory, double patience_s);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;
  // False where somebody else holds it.
  bool held() const { return held_; }

 private:
  int descriptor_ = -1;
  bool held_ = false;
};

struct CopiedFile {
  std::string sha256;  // of what was read
  Bytes size;
};
// Copies `from` to `to`, replacing it, and syncs it to the disk. Throws std::system_error naming
// the file.
CopiedFile copy_and_hash(const std::filesystem::path& from, const std::filesystem::path& to);

// Null where the file is not there, larger than `most`, or no JSON.
nlohmann::ordered_json read_json(const std::filesystem::path& path, Bytes most = {64 << 20});

}  // namespace strait::sweep
