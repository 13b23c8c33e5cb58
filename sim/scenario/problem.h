// One thing that is wrong with an input file: where, what was found, what is allowed, and the
// nearest valid name.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace strait::scenario {

struct Problem {
  std::string file;     // file name, or `--set "path=value"` for what came from the command line
  int line = 0;         // from 1; 0: unknown
  std::string pointer;  // JSON pointer (RFC 6901), "" for the whole document
  std::string found;    // what is there
  std::string allowed;  // what may be there, or what to do
  std::string nearest;  // the nearest valid name, "" if none is near

  // "quickstart.json:12: /network/links/bandwith: unknown key "bandwith"; did you mean "bandwidth"?
  // Allowed: ..."
  std::string text() const;
};

// The candidate with the smallest edit distance (insertion, deletion, substitution, swap of
// neighbours; letter case is half an edit), or "" if none is within a third of the name's length
// (at least 2).
std::string nearest_name(std::string_view name, std::span<const std::string> candidates);

// A text from the input as it may be shown: quoted, cut after 60 bytes, control characters escaped.
std::string in_quotes(std::string_view text);

}  // namespace strait::scenario
