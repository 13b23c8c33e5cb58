// Turns the packages' markup into running text, and cuts long texts into documents. All functions
// are pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace strait {

// Valid UTF-8 with Unix line ends: a byte that is not part of valid UTF-8 is read as Latin-1;
// carriage returns and control characters but tab and newline are dropped, also a byte order mark.
std::string repair_utf8(std::string_view text);

// OSIS XML, as Sword modules hold it: tags removed, notes with their content; titles, paragraphs,
// verse lines and table rows begin a line, chapters a paragraph; the five XML entities decoded;
// runs of spaces and blank lines are one.
std::string strip_osis(std::string_view xml);

// A dictd dictionary: cross-reference braces, pronunciations between backslashes on a headword's
// line, and lines that hold only a source in brackets ("[1913 Webster]") are removed.
std::string strip_dictionary(std::string_view text);

// `c BS c` and `_ BS c`, as typewriters struck over, become c.
std::string strip_overstrike(std::string_view text);

// Cuts before a line that starts with a non-space, at a blank line if one comes soon, once a piece
// has `bytes` bytes. The pieces joined are `text`.
std::vector<std::string_view> cut_text(std::string_view text, size_t bytes);

}  // namespace strait
