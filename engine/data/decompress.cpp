// zlib does RFC 1950 and 1952; LZW as Unix compress writes it is decoded here.
#include "engine/data/decompress.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <vector>

namespace strait {

namespace {

[[noreturn]] void damaged(const std::string& name, const char* what) {
  throw std::runtime_error(fmt::format("{}: {}", name, what));
}

}  // namespace

Inflated inflate_stream(std::string_view data, const std::string& name, size_t limit) {
  z_stream stream{};
  if (inflateInit2(&stream, 15 + 32) != Z_OK) damaged(name, "cannot start zlib");  // 32: either
  std::array<char, 65536> buffer;
  Inflated result;
  // zlib counts its input in 32 bits; longer data is handed over in parts.
  size_t given = 0;
  int state = Z_OK;
  while (state == Z_OK) {
    if (stream.avail_in == 0) {
      const size_t part = std::min<size_t>(data.size() - given, size_t{1} << 30);
      stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data() + given));
      stream.avail_in = static_cast<uInt>(part);
      given += part;
    }
    stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
    stream.avail_out = static_cast<uInt>(buffer.size());
    state = inflate(&stream, Z_NO_FLUSH);
    result.text.append(buffer.data(), buffer.size() - stream.avail_out);
    if (result.text.size() > limit) break;
  }
  result.consumed = given - stream.avail_in;
  inflateEnd(&stream);
  if (result.text.size() > limit) damaged(name, "decompresses to more than is allowed");
  if (state != Z_STREAM_END) damaged(name, "damaged or truncated zlib data");
  return result;
}

std::string gunzip(std::string_view data, const std::string& name, size_t limit) {
  std::string text;
  do {
    auto member = inflate_stream(data, name, limit - text.size());
    text += member.text;
    data.remove_prefix(member.consumed);
  } while (!data.empty());
  return text;
}

namespace {

constexpr unsigned kClear = 256;  // the code that empties the dictionary, in block mode

// Codes of varying width. compress writes codes in groups of eight: when the width changes, the
// rest of the group of the old width is padding.
class CodeReader {
 public:
  explicit CodeReader(std::string_view data) : data_(data) {}

  bool next(unsigned width, unsigned& code) {
    if (width != width_) {
      if (width_ != 0) end_group();
      width_ = width;
    }
    if (position_ + width > data_.size() * 8) return false;
    code = 0;
    for (unsigned bit = 0; bit < width; ++bit, ++position_) {
      code |= (static_cast<uint8_t>(data_[position_ / 8]) >> (position_ % 8) & 1u) << bit;
    }
    return true;
  }

  // After the clear code the width starts again at nine bits, at the next group, even from nine.
  void restart() {
    end_group();
    width_ = 0;
  }

 private:
  void end_group() {
    const size_t group_bits = width_ * 8;
    position_ = group_ + (position_ - group_ + group_bits - 1) / group_bits * group_bits;
    group_ = position_;
  }

  std::string_view data_;
  size_t position_ = 0, group_ = 0;  // in bits
  unsigned width_ = 0;
};

}  // namespace

std::string uncompress(std::string_view data, const std::string& name, size_t limit) {
  if (data.size() < 3 || data.substr(0, 2) != "\x1f\x9d") damaged(name, "not data of compress");
  const unsigned flags = static_cast<uint8_t>(data[2]), max_width = flags & 31u;
  const bool block_mode = flags & 128u;
  if (max_width < 9 || max_width > 16) damaged(name, "impossible code width");
  CodeReader reader(data.substr(3));
  std::vector<uint16_t> prefix(size_t{1} << max_width);
  std::vector<char> last(size_t{1} << max_width);
  const unsigned first_free = block_mode ? kClear + 1 : kClear;
  unsigned free_code = first_free, width = 9, code = 0, previous = 0;
  bool fresh = true;  // no previous code
  char first = 0;     // the first character of the previous code's string
  std::string text, reversed;
  while (reader.next(width, code)) {
    if (code == kClear && block_mode) {
      reader.restart();
      free_code = first_free, width = 9, fresh = true;
      continue;
    }
    if (code > free_code || (code >= 256 && fresh)) {
      damaged(name, "damaged compress data");
    }
    reversed.clear();
    unsigned walk = code;
    if (code == free_code && code >= first_free) reversed += first, walk = previous;
    for (; walk >= first_free; walk = prefix[walk]) reversed += last[walk];
    reversed += static_cast<char>(walk);
    first = reversed.back();
    text.append(reversed.rbegin(), reversed.rend());
    if (text.size() > limit) damaged(name, "decompresses to more than is allowed");
    if (!fresh && free_code < prefix.size()) {
      prefix[free_code] = static_cast<uint16_t>(previous), last[free_code] = first;
      ++free_code;
      if (free_code == (1u << width) && width < max_width) ++width;
    }
    previous = code, fresh = false;
  }
  return text;
}

}  // namespace strait
