// A corpus is text cut into documents: one of the named ones, fetched on first use and kept in the
// cache, or the user's own files. Pre-tokenised shards are not text and are opened as such
// (shard.h, dataset.h).
//
// Cache: <cache>/corpora/NAME/{text.txt, documents.txt, manifest.json}. It appears by one rename;
// two processes that want the same corpus at once wait for each other (a lock file), and only one
// of them fetches.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "engine/data/package.h"

namespace strait {

// What a scenario's "corpus" may be. Either a known name, or paths: text files, shards, or one
// directory of them.
struct CorpusSpec {
  std::string name;                          // of a named corpus; empty: `paths`
  std::vector<std::filesystem::path> paths;  // files in order, no directories; empty: `name`
  bool shards = false;                       // the paths are .bin files
};

// One entry that is a known name is that corpus. Otherwise every entry is a path; a directory
// stands for its .txt files, or its .bin files, at any depth, in the order of their names. Nothing
// is fetched or read. Throws std::invalid_argument: nothing given; a word that is no known name
// (lists them, with the nearest) and no path; a path that does not exist; a directory without such
// files, or with both; text and shards mixed; a name beside others.
CorpusSpec find_corpus(const std::vector<std::string>& entries);

struct DocumentSpan {
  size_t file = 0;    // index into Corpus::files
  int64_t begin = 0;  // bytes
  int64_t end = 0;
};

struct Corpus {
  std::string name;    // of the corpus, or of the first path
  std::string sha256;  // identity of the text and of its division into documents
  int64_t bytes = 0;
  std::vector<std::filesystem::path> files;  // one for a named corpus
  std::filesystem::path documents_file;      // of a named corpus; empty: each file is one document
  std::string origin;  // packages and versions, for the run's summary; empty for paths

  std::vector<DocumentSpan> documents()
      const;  // throws std::runtime_error if documents.txt is damaged
};

// Opens text; a named corpus that is not in the cache is fetched. User files are hashed whole at
// every opening. Throws std::runtime_error (no network, damaged cache, unreadable file, empty
// text). `source` is where packages come from.
Corpus open_corpus(const CorpusSpec& spec, PackageSource& source, const Notice& notice);

// For `strait corpus list` and `strait corpus fetch NAME`.
struct CorpusStatus {
  std::string name, description;
  std::vector<std::string> packages;
  std::string size;  // about, for people: "4.0 MB"
  bool cached = false;
  std::filesystem::path directory;  // where it is or will be
};
std::vector<CorpusStatus> list_corpora();
Corpus fetch_corpus(const std::string& name, PackageSource& source,
                    const Notice& notice);  // as open_corpus

}  // namespace strait
