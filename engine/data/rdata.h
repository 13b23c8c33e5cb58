// Reads the character vectors out of an R lazy-load database (`Rdata.rdb`), without R. The file is
// a row of chunks [4-byte big-endian uncompressed length][zlib stream], each one serialised R
// object in XDR form (R Internals, 1.8).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace strait {

// One element a chunk that is a character vector: its strings, each followed by a newline. Strings
// that are missing (NA) or not marked as ASCII are left out; chunks of another type too. Throws
// std::runtime_error with `name` and the offset of the chunk for damaged data.
std::vector<std::string> read_r_character_vectors(std::string_view database,
                                                  const std::string& name);

}  // namespace strait
