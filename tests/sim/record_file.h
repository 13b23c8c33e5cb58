// Helpers for tests on record files: whole files as bytes, all frames of a record.
#pragma once

#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "sim/record/reader.h"
#include "sim/record/writer.h"
#include "tests/temporary_directory.h"

namespace strait::testing {

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::vector<record::Frame> read_frames(const std::string& path) {
  record::RecordReader reader(path);
  std::vector<record::Frame> frames;
  while (auto frame = reader.next()) frames.push_back(std::move(*frame));
  return frames;
}

inline void write_frames(const std::string& path, const std::vector<record::Frame>& frames,
                         record::Encoding encoding = record::Encoding::zstd) {
  record::RecordWriter writer(path, encoding);
  for (const record::Frame& frame : frames) writer.write(frame);
}

}  // namespace strait::testing
