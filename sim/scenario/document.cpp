// Reads JSON through nlohmann's SAX interface with an iterator that counts lines (see document.h).
#include "sim/scenario/document.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace strait::scenario {
namespace {

// Counts as the lexer reads. A number is complete only when the character behind it has been read,
// so the line of a token is that of the last character that was no white space.
struct LineCounter {
  int line = 1;
  int token_line = 1;

  void pass(char c) {
    if (c == '\n')
      ++line;
    else if (c != ' ' && c != '\t' && c != '\r')
      token_line = line;
  }
};

class CountingIterator {
 public:
  using iterator_category = std::input_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  CountingIterator(const char* at, LineCounter* counter) : at_(at), counter_(counter) {}
  reference operator*() const { return *at_; }
  CountingIterator& operator++() {
    counter_->pass(*at_++);
    return *this;
  }
  bool operator==(const CountingIterator& other) const { return at_ == other.at_; }
  bool operator!=(const CountingIterator& other) const { return at_ != other.at_; }

 private:
  const char* at_;
  LineCounter* counter_;
};

// Builds the document from SAX events. Returning false stops the parser.
class Builder {
 public:
  Builder(Document& document, const LineCounter& counter, std::vector<Problem>& problems)
      : document_(document), counter_(counter), problems_(problems) {}

  bool null() { return scalar(nullptr); }
  bool boolean(bool value) { return scalar(value); }
  bool number_integer(Json::number_integer_t value) { return scalar(value); }
  bool number_unsigned(Json::number_unsigned_t value) { return scalar(value); }
  bool number_float(Json::number_float_t value, const std::string&) { return scalar(value); }
  bool string(std::string& value) { return scalar(std::move(value)); }
  bool binary(Json::binary_t&) { return false; }  // no such thing in JSON texts

  bool start_object(size_t) { return open(Json::object()); }
  bool start_array(size_t) { return open(Json::array()); }
  bool end_object() { return close(); }
  bool end_array() { return close(); }

  bool key(std::string& name) {
    Level& level = levels_.back();
    level.key = name;
    // Looked up where it is fast: a hostile object may have very many keys.
    level.duplicate = level.lines != nullptr && level.lines->children.contains(name);
    if (level.duplicate) {
      Path path = here();
      const int first = level.lines->children[name].line;
      report(path, fmt::format("the key {} a second time", in_quotes(name)),
             fmt::format("each key once (the first is on line {})", first));
    } else if (level.lines != nullptr) {
      level.lines->children[name].line = counter_.token_line;
    }
    return true;
  }

  template <class Exception>
  bool parse_error(size_t, const std::string&, const Exception& error) {
    // nlohmann's text is "[json.exception...] parse error at line 2, column 3: syntax error ... -
    // unexpected '}'; last read: '...'; expected ...". Kept: what follows the position, without the
    // text last read; and the expectation.
    std::string text = error.what();
    if (const size_t bracket = text.find("] "); bracket != std::string::npos)
      text.erase(0, bracket + 2);
    if (text.starts_with("parse error"))
      if (const size_t colon = text.find(": "); colon != std::string::npos)
        text.erase(0, colon + 2);
    std::string allowed = "JSON (with // comments)";
    if (const size_t expected = text.rfind("; expected "); expected != std::string::npos) {
      allowed = text.substr(expected + 11);
      text.erase(expected);
    }
    if (const size_t read = text.find("; last read"); read != std::string::npos) text.erase(read);
    if (const size_t number = text.find("number overflow"); number != std::string::npos)
      text = "a number beyond the range of a double";
    report(levels_.empty() ? Path{} : here(), text, allowed);
    return false;
  }

 private:
  struct Level {
    Json* value = nullptr;      // null below a duplicate key: read, checked, and dropped
    LineTree* lines = nullptr;  // null with value
    std::string key;            // objects: the member being read
    bool duplicate = false;     // of that member
    bool list = false;
    size_t count = 0;  // lists: elements read
  };

  Path here() const {
    Path path;
    for (const Level& level : levels_)
      path.push_back(level.list ? std::to_string(level.count) : level.key);
    return path;
  }

  void report(const Path& path, std::string found, std::string allowed) {
    problems_.push_back({document_.file, counter_.token_line, to_pointer(path), std::move(found),
                         std::move(allowed), ""});
  }

  // Puts a value where the parser stands; null where it is to be dropped.
  std::pair<Json*, LineTree*> place(Json value) {
    if (levels_.empty()) {
      document_.root = std::move(value);
      document_.lines.line = counter_.token_line;
      return {&document_.root, &document_.lines};
    }
    Level& level = levels_.back();
    if (level.value == nullptr || level.duplicate) return {nullptr, nullptr};
    if (level.list) {
      level.value->push_back(std::move(value));
      LineTree& lines = level.lines->children[std::to_string(level.count)];
      lines.line = counter_.token_line;
      return {&level.value->back(), &lines};
    }
    auto& members = level.value->get_ref<Json::object_t&>();
    members.emplace_back(level.key, std::move(value));  // key() has seen that it is new
    return {&members.back().second, &level.lines->children[level.key]};
  }

  bool scalar(Json value) {
    place(std::move(value));
    finish_element();
    return true;
  }

  bool open(Json value) {
    if (static_cast<int>(levels_.size()) >= max_document_depth) {
      report(here(), "objects and lists nested too deeply",
             fmt::format("{} levels", max_document_depth));
      return false;
    }
    const bool list = value.is_array();
    const auto [placed, lines] = place(std::move(value));
    levels_.push_back({placed, lines, "", false, list, 0});
    return true;
  }

  bool close() {
    levels_.pop_back();
    finish_element();
    return true;
  }

  void finish_element() {
    if (!levels_.empty() && levels_.back().list) ++levels_.back().count;
  }

  Document& document_;
  const LineCounter& counter_;
  std::vector<Problem>& problems_;
  std::vector<Level> levels_;
};

}  // namespace

std::string to_pointer(const Path& path) {
  constexpr size_t shown = 64;
  std::string pointer;
  for (const std::string& key : path) {
    pointer += '/';
    for (const char c : key.size() <= shown ? key : in_quotes(key)) {
      if (c == '~')
        pointer += "~0";
      else if (c == '/')
        pointer += "~1";
      else
        pointer += c;
    }
  }
  return pointer;
}

Problem Document::problem(const Path& path, std::string found, std::string allowed,
                          std::string nearest) const {
  Problem result{
      file, lines.line, to_pointer(path), std::move(found), std::move(allowed), std::move(nearest)};
  // The longest assigned path that leads to the value, the latest of equals.
  size_t longest = 0;
  for (const auto& [target, assignment] : assigned) {
    if (target.size() < longest || target.size() > path.size()) continue;
    if (!std::equal(target.begin(), target.end(), path.begin())) continue;
    longest = target.size();
    result.file = "--set " + in_quotes(assignment);
    result.line = 0;
  }
  if (longest > 0) return result;
  const LineTree* tree = &lines;
  for (const std::string& key : path) {
    const auto child = tree->children.find(key);
    if (child == tree->children.end()) break;
    tree = &child->second;
    result.line = tree->line;
  }
  return result;
}

LoadedText load_text(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return {std::nullopt, "a directory"};
  std::ifstream file(path, std::ios::binary);
  if (!file)
    return {std::nullopt, fmt::format("a file that cannot be opened ({})", std::strerror(errno))};
  // One byte beyond the limit is enough to see that a file is too large, also of one without an
  // end.
  std::string text(max_document_bytes + 1, '\0');
  file.read(text.data(), static_cast<std::streamsize>(text.size()));
  if (file.bad()) return {std::nullopt, "a file that cannot be read"};
  text.resize(static_cast<size_t>(file.gcount()));
  return {std::move(text), ""};
}

std::optional<Document> read_document(std::string_view text, const std::string& file,
                                      std::vector<Problem>& problems) {
  Document document;
  document.file = file;
  if (text.size() > max_document_bytes) {
    problems.push_back({file, 0, "", fmt::format("a text of {} bytes", text.size()),
                        fmt::format("at most {} bytes", max_document_bytes), ""});
    return std::nullopt;
  }
  LineCounter counter;
  Builder builder(document, counter, problems);
  const CountingIterator begin(text.data(), &counter);
  const CountingIterator end(text.data() + text.size(), &counter);
  const bool complete = Json::sax_parse(begin, end, &builder, Json::input_format_t::json,
                                        /*strict=*/true, /*ignore_comments=*/true);
  if (!complete) return std::nullopt;
  return document;
}

std::string describe(const Json& value) {
  switch (value.type()) {
    case Json::value_t::null:
      return "null";
    case Json::value_t::boolean:
      return value.get<bool>() ? "true" : "false";
    case Json::value_t::string:
      return "the text " + in_quotes(value.get_ref<const std::string&>());
    case Json::value_t::array:
      return value.empty() ? "an empty list" : "a list";
    case Json::value_t::object:
      return "an object";
    default:
      return "the number " + value.dump();
  }
}

bool valid_utf8(std::string_view text) {
  // nlohmann's serialiser refuses exactly what its parser refuses.
  try {
    static_cast<void>(Json(std::string(text)).dump());
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}

bool has_control_characters(std::string_view text) {
  return std::any_of(text.begin(), text.end(),
                     [](unsigned char c) { return c < 0x20 || c == 0x7F; });
}

std::string name_of_file(const std::string& file, const std::string& otherwise) {
  const std::string stem = std::filesystem::path(file).stem().string();
  const bool good = !stem.empty() && valid_utf8(stem) && !has_control_characters(stem);
  return good ? stem : otherwise;
}

}  // namespace strait::scenario
