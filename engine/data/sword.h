// Two Bible formats: Sword's compressed modules (zText, zCom), and bible-kjv's data file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace strait {

// The blocks of one testament, inflated, in file order. `index` is the .bzs file: records of three
// little-endian 32-bit words, (offset, compressed bytes, bytes), into `data`, the .bzz file: zlib
// streams. Throws std::runtime_error.
std::vector<std::string> read_sword_blocks(std::string_view index, std::string_view data,
                                           const std::string& name);

struct BibleBook {
  std::string name;  // as the file abbreviates it: "Ge", "1Sam"
  std::string
      text;  // a verse a line, without its number; an empty line before each chapter but the first
};

// bible-kjv's `bible.data`: a header, then one stream of Unix compress that holds lines "Ge1:1 In
// the beginning ...".
std::vector<BibleBook> read_king_james(std::string_view file, const std::string& name);

}  // namespace strait
