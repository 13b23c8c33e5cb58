// A reader for the few parts of R's serialisation format that a vector of strings needs: header,
// STRSXP, CHARSXP.
#include "engine/data/rdata.h"

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <stdexcept>

#include "engine/data/decompress.h"

namespace strait {

namespace {

constexpr uint32_t kCharacterVector = 16, kString = 9;  // SEXP types, the low byte of the flags
constexpr uint32_t kAscii = 0x40u << 12;                // the string's "gp" bits start at bit 12

struct Damaged {
  const char* what;
};

// Big-endian numbers from a buffer; running over the end is Damaged.
class XdrReader {
 public:
  explicit XdrReader(std::string_view data) : data_(data) {}

  std::string_view take(size_t bytes) {
    if (bytes > data_.size()) throw Damaged{"a value runs over the end"};
    const auto taken = data_.substr(0, bytes);
    data_.remove_prefix(bytes);
    return taken;
  }
  uint32_t number() {
    uint32_t value = 0;
    for (char c : take(4)) value = value << 8 | static_cast<uint8_t>(c);
    return value;
  }
  size_t remaining() const { return data_.size(); }

 private:
  std::string_view data_;
};

std::optional<std::string> character_vector(std::string_view serialised) {
  XdrReader reader(serialised);
  if (reader.take(2) != "X\n") throw Damaged{"not R's XDR serialisation"};
  const uint32_t version = reader.number();
  if (version != 2 && version != 3) throw Damaged{"unknown serialisation version"};
  reader.take(8);  // the versions of R that wrote it and that can read it
  if (version == 3) reader.take(reader.number());  // the native encoding's name
  if ((reader.number() & 0xffu) != kCharacterVector) return std::nullopt;
  const uint32_t count = reader.number();
  if (count > reader.remaining() / 8) throw Damaged{"more strings than bytes"};
  std::string text;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t flags = reader.number();
    if ((flags & 0xffu) != kString) throw Damaged{"an element is not a string"};
    const uint32_t length = reader.number();
    if (length == UINT32_MAX) continue;  // NA
    const auto content = reader.take(length);
    if (!(flags & kAscii)) continue;
    text += content;
    text += '\n';
  }
  return text;
}

}  // namespace

std::vector<std::string> read_r_character_vectors(std::string_view database,
                                                  const std::string& name) {
  std::vector<std::string> vectors;
  for (size_t offset = 0; offset < database.size();) {
    try {
      XdrReader header(database.substr(offset));
      const uint32_t length = header.number();
      const auto chunk = inflate_stream(database.substr(offset + 4), name);
      if (chunk.text.size() != length) throw Damaged{"a chunk is not as long as it says"};
      if (auto text = character_vector(chunk.text)) vectors.push_back(std::move(*text));
      offset += 4 + chunk.consumed;
    } catch (const Damaged& damage) {
      throw std::runtime_error(fmt::format("{}: chunk at byte {}: {}", name, offset, damage.what));
    }
  }
  return vectors;
}

}  // namespace strait
