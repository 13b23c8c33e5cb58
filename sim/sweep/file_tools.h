// The few file operations of this folder: copies whose hash is known, reading JSON files that may be
// anything.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "sim/record/units.h"

namespace strait::sweep {

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
