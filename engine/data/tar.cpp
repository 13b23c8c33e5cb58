// Headers are blocks of 512 bytes: name [0,100), size in octal [124,136), type [156], prefix
// [345,500) (IEEE 1003.1, pax).
#include "engine/data/tar.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <stdexcept>

namespace strait {

namespace {

constexpr size_t kBlock = 512;

std::string_view text_field(std::string_view header, size_t offset, size_t length) {
  const auto field = header.substr(offset, length);
  return field.substr(0, field.find('\0'));
}

// Decimal or octal digits, spaces around them; npos for anything else.
size_t number(std::string_view digits, int base) {
  while (digits.starts_with(' ')) digits.remove_prefix(1);
  size_t value = 0;
  const auto [stop, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, base);
  return error == std::errc{} ? value : std::string_view::npos;
}

// The value of `key` in pax records "LENGTH KEY=VALUE\n", or an empty text.
std::string_view pax_value(std::string_view records, std::string_view key) {
  while (!records.empty()) {
    const size_t length = number(records.substr(0, records.find(' ')), 10);
    const size_t space = records.find(' ');
    if (space == std::string_view::npos || length > records.size() || length < space + 2) break;
    const auto record = records.substr(space + 1, length - space - 2);
    if (record.starts_with(key) && record.substr(key.size()).starts_with('=')) {
      return record.substr(key.size() + 1);
    }
    records.remove_prefix(length);
  }
  return {};
}

}  // namespace

std::vector<TarFile> list_tar(std::string_view archive, const std::string& name) {
  std::vector<TarFile> files;
  std::string long_name;  // of the next file
  for (size_t at = 0; at + kBlock <= archive.size();) {
    const auto header = archive.substr(at, kBlock);
    if (header.find_first_not_of('\0') == std::string_view::npos) return files;
    const size_t size = number(text_field(header, 124, 12), 8);
    if (header.substr(257, 5) != "ustar" || size > archive.size() - at - kBlock) {
      throw std::runtime_error(fmt::format("{}: damaged tar header at byte {}", name, at));
    }
    const auto content = archive.substr(at + kBlock, size);
    const char type = header[156];
    if (type == 'L') {
      long_name = content.substr(0, content.find('\0'));
    } else if (type == 'x') {
      long_name = pax_value(content, "path");
    } else if (type != 'g') {
      if (type == '0' || type == '\0') {
        const auto prefix = header.substr(257, 6) == std::string_view("ustar\0", 6)
                                ? text_field(header, 345, 155)
                                : std::string_view{};
        std::string short_name(prefix);
        if (!prefix.empty()) short_name += '/';
        short_name += text_field(header, 0, 100);
        files.push_back({long_name.empty() ? short_name : long_name, content});
      }
      long_name.clear();
    }
    at += kBlock + (size + kBlock - 1) / kBlock * kBlock;
  }
  throw std::runtime_error(fmt::format("{}: a truncated tar archive", name));
}

}  // namespace strait
