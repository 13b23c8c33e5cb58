// strait corpus list | fetch NAME: the named corpora and the cache.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/data/corpus.h"
#include "sim/cli/commands.h"

namespace strait::cli {

int corpus_list_command() {
  for (const CorpusStatus& c : list_corpora()) {
    fmt::print("{:<8} {:>8}  {:<6}  {}\n{:27}from {}\n", c.name, c.size, c.cached ? "cached" : "",
               c.description, "", fmt::join(c.packages, ", "));
  }
  return kDone;
}

int corpus_fetch_command(const std::string& name) {
  try {
    AptPackages source;
    const Corpus c =
        fetch_corpus(name, source, [](const std::string& line) { fmt::print("{}\n", line); });
    fmt::print("{}: {} bytes of text at {}\n", name, c.bytes, c.files.front().string());
  } catch (const std::invalid_argument& e) {
    throw WrongInput{e.what()};
  }
  return kDone;
}

}  // namespace strait::cli
