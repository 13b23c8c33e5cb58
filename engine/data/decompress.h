// The three compressed forms inside the corpora's packages. All input is treated as hostile:
// damaged data is a std::runtime_error with `name` in it, never a crash, and output is bounded by
// `limit` bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace strait {

constexpr size_t kDecompressionLimit = size_t{1} << 30;

struct Inflated {
  std::string text;
  size_t consumed = 0;  // input bytes of the stream; more may follow
};

// One zlib or gzip stream (RFC 1950, 1952) at the beginning of `data`, found out by its header.
Inflated inflate_stream(std::string_view data, const std::string& name,
                        size_t limit = kDecompressionLimit);

// All gzip members of a file, one after another: .gz and dictzip's .dz.
std::string gunzip(std::string_view data, const std::string& name,
                   size_t limit = kDecompressionLimit);

// The stream of Unix compress (.Z): adaptive LZW, codes of 9 to 16 bits, least significant bit
// first, block mode.
std::string uncompress(std::string_view data, const std::string& name,
                       size_t limit = kDecompressionLimit);

}  // namespace strait
