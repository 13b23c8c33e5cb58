// documents.txt has one line a document: the offset of its end in text.txt, a tab, its name.
#include "engine/data/text_writer.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/data/markup.h"
#include "kernels/rng.h"

namespace strait {

TextWriter::TextWriter(const std::filesystem::path& directory)
    : text_(directory / "text.txt"), documents_(directory / "documents.txt") {}

std::string TextWriter::without_repeats(std::string_view text) {
  std::string kept;
  kept.reserve(text.size());
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size() - 1) + 1;
    const auto line = text.substr(begin, end - begin);
    if (line.size() <= repeated_bytes_ || seen_.insert(hash_name(line)).second) kept += line;
    begin = end;
  }
  return kept;
}

void TextWriter::add(std::string_view name, std::string_view text) {
  auto content = repair_utf8(text);
  if (repeated_bytes_ > 0) content = without_repeats(content);
  if (content.empty()) return;
  text_.write(content);
  hash_.update(content);
  summary_.bytes += static_cast<int64_t>(content.size());
  summary_.documents += 1;
  std::string label(name);
  std::replace_if(
      label.begin(), label.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
  documents_.write(fmt::format("{}\t{}\n", summary_.bytes, label));
}

TextSummary TextWriter::finish() {
  text_.finish();
  documents_.finish();
  summary_.sha256 = hash_.hex();
  return summary_;
}

}  // namespace strait
