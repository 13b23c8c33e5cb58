// The few file operations that commands share.
#pragma once

#include <filesystem>
#include <string>

namespace strait::cli {

// The run directory: `out`, which must be empty or not exist, or a fresh runs/NAME, runs/NAME-2, … Created, with its record/.
// Throws WrongInput if `out` holds anything.
std::filesystem::path make_run_directory(const std::string& out, const std::string& name);

}  // namespace strait::cli
