// The few file operations that commands share.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

namespace strait::cli {

// The run directory: `out`, which must be empty or not exist, or a fresh runs/NAME, runs/NAME-2, … Created, with its record/.
// Throws WrongInput if `out` holds anything.
std::filesystem::path make_run_directory(const std::string& out, const std::string& name);

// The directory that `run --resume` goes on with: `out`, or runs/NAME; made if it does not exist or is empty. Throws WrongInput if it
// holds anything else than a run.
std::filesystem::path find_run_directory(const std::string& out, const std::string& name);

// Held while a program writes into a directory; the kernel lets go of it when the process ends, however it ends. `strait` holds
// that of RUN/record, strait-sim that of the folder of its traces.
class DirectoryLock {
 public:
  // Waits for another holder for at most `patience`, then throws WrongInput.
  DirectoryLock(const std::filesystem::path& directory, std::chrono::milliseconds patience);
  ~DirectoryLock();
  DirectoryLock(const DirectoryLock&) = delete;
  DirectoryLock& operator=(const DirectoryLock&) = delete;

 private:
  int descriptor_;
};

}  // namespace strait::cli
