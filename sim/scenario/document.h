// A JSON text with its line numbers: what every error message of this folder points into.
// nlohmann's SAX parser does the reading; this adds lines, refusal of duplicate keys, and bounds on
// size and depth, so that any input ends in a document or a problem.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/scenario/problem.h"

namespace strait::scenario {

using Json = nlohmann::ordered_json;

// The line on which each value stands (for a member: its key), mirroring the document.
struct LineTree {
  int line = 0;
  std::map<std::string, LineTree> children;  // by key, or by index for lists
};

using Path = std::vector<std::string>;

// "/network/links/bandwidth"; keys of more than 64 bytes are cut.
std::string to_pointer(const Path& path);

struct Document {
  std::string file;
  Json root;
  LineTree lines;
  std::vector<std::pair<Path, std::string>>
      assigned;  // what the command line set, and how it said so

  // A problem at `path`: its file and line, or the assignment that put the value there. Where the
  // path does not exist (a missing key), the line of the innermost value that does.
  Problem problem(const Path& path, std::string found, std::string allowed,
                  std::string nearest = "") const;
};

constexpr size_t max_document_bytes = 1 << 20;
constexpr int max_document_depth = 32;

// The text of an input file, or what is there instead.
struct LoadedText {
  std::optional<std::string> text;  // of a file that is too large, one byte too many
  std::string problem;
};
LoadedText load_text(const std::string& path);

// No document where the text is not JSON. Duplicate keys are problems, too, and the first value
// stands.
std::optional<Document> read_document(std::string_view text, const std::string& file,
                                      std::vector<Problem>& problems);

// As messages name a value: `the text "fast"`, `the number 3`, `a list`.
std::string describe(const Json& value);

bool valid_utf8(std::string_view text);
bool has_control_characters(std::string_view text);
// What a file is called without folder and ending, or `otherwise` where that can be no name.
std::string name_of_file(const std::string& file, const std::string& otherwise);

}  // namespace strait::scenario
