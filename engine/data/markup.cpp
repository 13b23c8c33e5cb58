// Plain scanners, one pass each; no regular expressions, so that their cost is linear and their
// result the same anywhere.
#include "engine/data/markup.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdint>
#include <iterator>

namespace strait {

namespace {

// Length of the valid UTF-8 sequence at the beginning of `text` (Unicode, table 3-7), 0 if there is
// none.
size_t utf8_length(std::string_view text) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<uint8_t>(text[i]) : uint8_t{0};
  };
  const uint8_t first = byte(0);
  if (first < 0x80) return 1;
  size_t length = 0;
  uint8_t low = 0x80, high = 0xBF;  // allowed range of the second byte
  if (first >= 0xC2 && first <= 0xDF) length = 2;
  if (first >= 0xE0 && first <= 0xEF) length = 3;
  if (first >= 0xF0 && first <= 0xF4) length = 4;
  if (first == 0xE0) low = 0xA0;
  if (first == 0xED) high = 0x9F;
  if (first == 0xF0) low = 0x90;
  if (first == 0xF4) high = 0x8F;
  if (length == 0 || byte(1) < low || byte(1) > high) return 0;
  for (size_t i = 2; i < length; ++i) {
    if (byte(i) < 0x80 || byte(i) > 0xBF) return 0;
  }
  return length;
}

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\t'; }

// Appends to a text in which runs of spaces are one space and runs of newlines at most two.
class TextFlow {
 public:
  void put(char c) {
    if (c == '\n') c = ' ';  // line ends inside the markup mean nothing
    if (c == ' ' || c == '\t') {
      if (!text_.empty() && !is_space(text_.back())) text_ += ' ';
    } else {
      text_ += c;
    }
  }
  void begin_line(size_t newlines) {
    while (!text_.empty() && text_.back() == ' ') text_.pop_back();
    if (text_.empty()) return;
    size_t present = 0;
    while (present < text_.size() && text_[text_.size() - 1 - present] == '\n') ++present;
    for (; present < newlines; ++present) text_ += '\n';
  }
  bool after_letter() const { return !text_.empty() && !is_space(text_.back()); }
  std::string take() {
    begin_line(1);
    return std::move(text_);
  }

 private:
  std::string text_;
};

// `tag` is what stands between < and >.
void break_for_tag(std::string_view tag, TextFlow& flow) {
  const auto name = tag.substr(0, tag.find_first_of(" /", tag.starts_with('/') ? 1 : 0));
  if (name == "chapter") flow.begin_line(2);
  if (name == "title" || name == "/title" || name == "div" || name == "/div" || name == "l" ||
      name == "lg" || name == "p" || name == "/p" || name == "row" || name == "lb") {
    flow.begin_line(1);
  }
  if (name == "cell") flow.put(' ');
}

struct Entity {
  std::string_view name;
  char character;
};
constexpr std::array<Entity, 5> kEntities = {
    {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&apos;", '\''}}};

}  // namespace

std::string repair_utf8(std::string_view text) {
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  std::string result;
  result.reserve(text.size());
  while (!text.empty()) {
    const size_t length = utf8_length(text);
    const auto first = static_cast<uint8_t>(text[0]);
    if (length == 0) {
      result += static_cast<char>(0xC0 | first >> 6);
      result += static_cast<char>(0x80 | (first & 0x3F));
    } else if (length > 1 || first == '\n' || first == '\t' || (first >= 0x20 && first != 0x7F)) {
      result += text.substr(0, length);
    }
    text.remove_prefix(std::max<size_t>(length, 1));
  }
  return result;
}

std::string strip_osis(std::string_view xml) {
  TextFlow flow;
  bool after_note = false;  // a note between two words stands for a space
  for (size_t i = 0; i < xml.size();) {
    if (xml[i] == '<') {
      size_t end = std::min(xml.find('>', i), xml.size());
      const auto tag = xml.substr(i + 1, end - i - 1);
      const bool note = tag.starts_with("note") && !tag.ends_with('/');
      if (note) end = xml.find("</note>", i);
      if (note) end = end == std::string_view::npos ? xml.size() : end + 6;
      after_note |= note;
      if (!note) break_for_tag(tag, flow);
      i = end + 1;
      continue;
    }
    char c = xml[i];
    size_t length = 1;
    for (const auto& entity : kEntities) {
      if (xml.substr(i).starts_with(entity.name)) c = entity.character, length = entity.name.size();
    }
    if (after_note && std::isalnum(static_cast<unsigned char>(c)) && flow.after_letter()) {
      flow.put(' ');
    }
    after_note = false;
    flow.put(c);
    i += length;
  }
  return flow.take();
}

std::string strip_dictionary(std::string_view text) {
  constexpr size_t kLongestSource = 40;
  std::string result;
  result.reserve(text.size());
  for (size_t begin = 0; begin < text.size();) {
    const size_t end = std::min(text.find('\n', begin), text.size());
    auto line = text.substr(begin, end - begin);
    begin = end + 1;
    const size_t indent = line.find_first_not_of(' ');
    const auto content =
        indent == std::string_view::npos ? std::string_view{} : line.substr(indent);
    if (indent > 0 && content.starts_with('[') && content.ends_with(']') &&
        content.size() <= kLongestSource && content.find(']') == content.size() - 1) {
      continue;
    }
    std::string_view rest;
    if (indent == 0) {
      const size_t open = line.find(" \\");
      const size_t close = open == std::string_view::npos ? open : line.find('\\', open + 2);
      if (close != std::string_view::npos)
        rest = line.substr(close + 1), line = line.substr(0, open);
    }
    for (const auto part : {line, rest}) {
      std::copy_if(part.begin(), part.end(), std::back_inserter(result),
                   [](char c) { return c != '{' && c != '}'; });
    }
    result += '\n';
  }
  return result;
}

std::string strip_overstrike(std::string_view text) {
  std::string result;
  for (char c : text) {
    if (c != '\b') {
      result += c;
    } else if (!result.empty() && result.back() != '\n') {
      while (result.size() > 1 && (static_cast<uint8_t>(result.back()) & 0xC0) == 0x80) {
        result.pop_back();  // continuation bytes of one character
      }
      result.pop_back();
    }
  }
  return result;
}

std::vector<std::string_view> cut_text(std::string_view text, size_t bytes) {
  constexpr size_t kSearchForBlankLine = 4096;
  std::vector<std::string_view> pieces;
  while (text.size() > bytes) {
    size_t first = std::string_view::npos, cut = std::string_view::npos;
    for (size_t line = text.find('\n', bytes);
         line != std::string_view::npos && line + 1 < text.size();
         line = text.find('\n', line + 1)) {
      if (is_space(text[line + 1])) continue;
      if (first == std::string_view::npos) first = line + 1;
      if (line > 0 && text[line - 1] == '\n') cut = line + 1;
      if (cut != std::string_view::npos || line > first + kSearchForBlankLine) break;
    }
    if (cut == std::string_view::npos) cut = first;
    if (cut == std::string_view::npos) break;
    pieces.push_back(text.substr(0, cut));
    text.remove_prefix(cut);
  }
  if (!text.empty()) pieces.push_back(text);
  return pieces;
}

}  // namespace strait
