// The few file operations that commands share.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

#include "sim/trace/directory_lock.h"

namespace strait::cli {

// A name that a file may hold, as one folder's name that is neither hidden nor another folder's.
std::string directory_name(std::string name);

// A new directory: `out`, which must be empty or not exist, or, where it is "", a fresh PARENT/NAME, PARENT/NAME-2, … Created.
// Throws WrongInput if `out` holds anything.
std::filesystem::path make_directory(const std::string& out, const std::filesystem::path& parent,
                                     const std::string& name);

// The same for a run: in runs/, with its record/.
std::filesystem::path make_run_directory(const std::string& out, const std::string& name);

// The directory that `run --resume` goes on with: `out`, or runs/NAME; made if it does not exist or is empty. Throws WrongInput if it
// holds anything else than a run.
std::filesystem::path find_run_directory(const std::string& out, const std::string& name);

// Held while a program writes into a directory. `strait` holds that of RUN/record or of a sweep, strait-sim that of the folder of
// its traces.
class DirectoryLock {
 public:
  // Waits for another holder for at most `patience`, then throws WrongInput.
  DirectoryLock(const std::filesystem::path& directory, std::chrono::milliseconds patience);

 private:
  sim::DirectoryLock lock_;
};

}  // namespace strait::cli
