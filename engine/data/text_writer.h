// Writes a corpus: one UTF-8 text, where its documents end, and what it is (text.txt,
// documents.txt, manifest.json).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <unordered_set>

#include "engine/data/files.h"
#include "sim/record/sha256.h"

namespace strait {

struct TextSummary {
  int64_t bytes = 0;
  int64_t documents = 0;
  std::string sha256;  // of text.txt
};

class TextWriter {
 public:
  // Creates text.txt and documents.txt in `directory`, which exists.
  explicit TextWriter(const std::filesystem::path& directory);

  // From now on a line of at least `bytes` bytes that was written before is dropped. A line is
  // known by a 64-bit hash: 16 to 40 bytes of memory a line; a false repeat is a matter of 1 in
  // 10^8 for 100 MB of text.
  void drop_repeated_lines(size_t bytes) { repeated_bytes_ = bytes; }

  // Appends a document, repaired to valid UTF-8 (markup.h). Empty documents are skipped. `name`
  // says where it is from.
  void add(std::string_view name, std::string_view text);

  TextSummary finish();

 private:
  std::string without_repeats(std::string_view text);

  OutputFile text_, documents_;
  Sha256 hash_;
  TextSummary summary_;
  size_t repeated_bytes_ = 0;  // 0: keep all
  std::unordered_set<uint64_t> seen_;
};

}  // namespace strait
