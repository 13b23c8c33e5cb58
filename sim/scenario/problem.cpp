// Texts of problems, and the nearest valid name by edit distance.
#include "sim/scenario/problem.h"

#include <fmt/format.h>

#include <algorithm>

namespace strait::scenario {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

// Twice the Damerau-Levenshtein distance (optimal string alignment), so that a change of letter
// case can count half an edit.
int doubled_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<int>> d(a.size() + 1, std::vector<int>(b.size() + 1));
  for (size_t i = 0; i <= a.size(); ++i) d[i][0] = static_cast<int>(2 * i);
  for (size_t j = 0; j <= b.size(); ++j) d[0][j] = static_cast<int>(2 * j);
  for (size_t i = 1; i <= a.size(); ++i)
    for (size_t j = 1; j <= b.size(); ++j) {
      const int change = a[i - 1] == b[j - 1] ? 0 : lower(a[i - 1]) == lower(b[j - 1]) ? 1 : 2;
      d[i][j] = std::min({d[i - 1][j] + 2, d[i][j - 1] + 2, d[i - 1][j - 1] + change});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 2);
    }
  return d[a.size()][b.size()];
}

}  // namespace

std::string nearest_name(std::string_view name, std::span<const std::string> candidates) {
  constexpr size_t longest = 64;  // longer texts are no misspelt names; bounds the quadratic table
  if (name.empty() || name.size() > longest) return "";
  const int limit = 2 * std::max<int>(2, static_cast<int>(name.size()) / 3);
  std::string best;
  int best_distance = limit + 1;
  for (const std::string& candidate : candidates) {
    // Each letter more or less is an edit.
    if (candidate.size() > name.size() + static_cast<size_t>(limit) / 2) continue;
    const int distance = doubled_distance(name, candidate);
    // A distance of the whole name says only that both are short.
    if (distance >= 2 * static_cast<int>(std::max(name.size(), candidate.size()))) continue;
    if (distance < best_distance) {
      best_distance = distance;
      best = candidate;
    }
  }
  return best;
}

std::string in_quotes(std::string_view text) {
  constexpr size_t shown = 60;
  std::string result = "\"";
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool character_begins = (byte & 0xC0) != 0x80;
    if (i >= shown && character_begins) return result + "...\"";
    if (byte < 0x20 || byte == 0x7F)
      result += fmt::format("\\x{:02x}", byte);
    else
      result += text[i];
  }
  return result + "\"";
}

std::string Problem::text() const {
  std::string where = file;
  if (line > 0) where += fmt::format(":{}", line);
  if (!where.empty()) where += ": ";
  std::string result = fmt::format("{}{}: found {}", where, pointer.empty() ? "/" : pointer, found);
  if (!nearest.empty()) result += fmt::format("; did you mean \"{}\"?", nearest);
  if (!allowed.empty())
    result += fmt::format("{} allowed: {}", nearest.empty() ? ";" : "", allowed);
  return result;
}

}  // namespace strait::scenario
