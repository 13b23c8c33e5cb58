// Whether the files that a simulation wrote are those that another one wrote, byte for byte.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace strait::cli {

struct ComparedFile {
  std::string name;
  std::string first, second;  // the beginnings of the SHA-256 of both
  std::string difference;     // the first one: line, column, both values; "" if equal
};

// Every trace file of `first` (steps.csv, evals.csv, ranks.csv, links.csv, messages.csv, diagnostics.csv, timeline.json,
// summary.json) with its namesake in `second`. Of summary.json host times and versions are left out, and the path of a
// reference. Files that `first` does not have are not looked at.
std::vector<ComparedFile> compare_traces(const std::filesystem::path& first,
                                         const std::filesystem::path& second);

}  // namespace strait::cli
