// An exclusive lock on a directory, gone with the process, however it ends.
#pragma once

#include <chrono>
#include <filesystem>

namespace strait::sim {

// Where the file system has no locks, there is none: it counts as held.
class DirectoryLock {
 public:
  // Waits for another holder for at most `patience`; then held() is false. Throws std::system_error
  // naming the directory where it cannot be opened.
  DirectoryLock(const std::filesystem::path& directory, std::chrono::milliseconds patience);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

  bool held() const { return held_; }

 private:
  int descriptor_ = -1;
  bool held_ = false;
};

}  // namespace strait::sim
