// Runs another program to its end, without a shell: the arguments are passed as they are.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace strait {

struct ProcessResult {
  int status = 0;      // exit status; 127: no such program; 128 + n: ended by signal n
  std::string output;  // what it wrote to standard output
  std::string errors;  // what it wrote to standard error
};

// Runs arguments[0], found through PATH, in `directory`, with messages in English (LC_ALL=C) and no
// standard input. Throws std::runtime_error if the system cannot start a process at all; a failing
// program is a status, not an exception.
ProcessResult run_process(const std::vector<std::string>& arguments,
                          const std::filesystem::path& directory);

}  // namespace strait
