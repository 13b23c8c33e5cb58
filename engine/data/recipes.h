// How each named corpus is made from Debian packages: which packages, and how their files become
// text.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/data/package.h"
#include "engine/data/text_writer.h"

namespace strait {

struct Recipe {
  std::string name;
  std::string description;
  std::vector<std::string> packages;
  std::string size;  // of the text, for people
  // Where `packages` are at exactly these versions, the text must have this hash; empty where the
  // packages still move.
  std::vector<std::string> frozen_versions;
  std::string frozen_sha256;
};

// austen, prose, english, code: each of the first three contains the one before.
const std::vector<Recipe>& recipes();

// Writes the recipe's text from the unpacked packages (whose .tar.xz files are decompressed in
// place). Memory: the text of `prose` and `english` once; `code` one file at a time. Deterministic:
// the order of documents is a function of their names alone. Throws std::runtime_error if a package
// lacks what the recipe expects.
void write_corpus_text(const Recipe& recipe, const std::vector<Package>& packages,
                       TextWriter& writer, const Notice& notice);

}  // namespace strait
