// Readers of the Sword block index and of bible-kjv's single compressed stream.
#include "engine/data/sword.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <cstring>
#include <stdexcept>

#include "engine/data/decompress.h"

namespace strait {

std::vector<std::string> read_sword_blocks(std::string_view index, std::string_view data,
                                           const std::string& name) {
  constexpr size_t kRecord = 12;
  if (index.size() % kRecord != 0) {
    throw std::runtime_error(fmt::format("{}: its index is not a whole number of records", name));
  }
  std::vector<std::string> blocks;
  for (size_t at = 0; at < index.size(); at += kRecord) {
    uint32_t words[3];  // offset, compressed bytes, bytes
    std::memcpy(words, index.data() + at, kRecord);
    if (words[0] > data.size() || words[1] > data.size() - words[0]) {
      throw std::runtime_error(
          fmt::format("{}: block {} lies outside of the file", name, at / kRecord));
    }
    if (words[1] == 0) continue;
    blocks.push_back(inflate_stream(data.substr(words[0], words[1]), name, words[2]).text);
  }
  return blocks;
}

std::vector<BibleBook> read_king_james(std::string_view file, const std::string& name) {
  const size_t start = file.find("\x1f\x9d");
  if (start == std::string_view::npos) {
    throw std::runtime_error(fmt::format("{}: no compressed stream in it", name));
  }
  const std::string text = uncompress(file.substr(start), name);
  std::vector<BibleBook> books;
  std::string_view chapter;  // of the last verse
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    const auto line = std::string_view(text).substr(begin, end - begin);
    begin = end + 1;
    const size_t space = line.find(' '), colon = line.find(':');
    if (space == std::string_view::npos || colon == std::string_view::npos || colon > space) {
      continue;  // the title
    }
    size_t digits = colon;
    while (digits > 0 && std::isdigit(static_cast<unsigned char>(line[digits - 1]))) --digits;
    const auto book = line.substr(0, digits);
    if (books.empty() || books.back().name != book) {
      books.push_back({std::string(book), ""});
    } else if (line.substr(0, colon) != chapter) {
      books.back().text += '\n';
    }
    chapter = line.substr(0, colon);
    books.back().text += line.substr(space + 1);
    books.back().text += '\n';
  }
  return books;
}

}  // namespace strait
