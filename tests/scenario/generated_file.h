// What tests do with the files that are generated from the tables and committed: compare them with
// what the tables say now, and have schemas judged by an independent validator.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include "sim/scenario/document.h"

namespace strait::scenario {

// With STRAIT_WRITE_GENERATED=1 in the environment the file is written instead.
inline void expect_current(const std::string& path, const std::string& text) {
  const std::string full = std::string(STRAIT_SOURCE_DIR) + "/" + path;
  if (std::getenv("STRAIT_WRITE_GENERATED") != nullptr) {
    std::ofstream(full, std::ios::binary) << text;
    GTEST_SKIP() << "wrote " << full;
  }
  std::ifstream file(full, std::ios::binary);
  const std::string committed{std::istreambuf_iterator<char>(file), {}};
  EXPECT_TRUE(committed == text) << path
                                 << " is not what the tables say; run this test with "
                                    "STRAIT_WRITE_GENERATED=1 and look at the difference";
}

// What python3-jsonschema says of each document: "yes\n", or "no" and why. None where it is missing.
inline std::optional<std::vector<std::string>> judge(const Json& schema,
                                                     const std::vector<Json>& documents) {
  constexpr int not_installed = 77;  // validate_documents.py
  const auto path = std::filesystem::temp_directory_path() /
                    ("strait_schema_test_" + std::to_string(::getpid()) + ".json");
  std::ofstream(path) << Json({{"schema", schema}, {"documents", documents}}).dump();
  const std::string command = "python3 '" STRAIT_SOURCE_DIR
                              "/tests/scenario/validate_documents.py' '" +
                              path.string() + "'";
  FILE* pipe = ::popen(command.c_str(), "r");
  std::vector<std::string> answers;
  char line[512];
  while (pipe != nullptr && std::fgets(line, sizeof line, pipe) != nullptr)
    answers.emplace_back(line);
  const int status = pipe == nullptr ? -1 : ::pclose(pipe);
  std::filesystem::remove(path);
  if (WIFEXITED(status) && WEXITSTATUS(status) == not_installed) return std::nullopt;
  EXPECT_EQ(status, 0) << command;
  EXPECT_EQ(answers.size(), documents.size());
  answers.resize(documents.size());
  return answers;
}

}  // namespace strait::scenario
