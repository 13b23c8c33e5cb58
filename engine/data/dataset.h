// From a scenario's "data" to samplers: finds the corpus (fetching it on first use), tokenises it
// once into the cache, splits off validation data, and says what the data is. Shards of tokens are
// used as they are.
//
// Cache: <cache>/tokens/<text hash>-<tokenizer hash>/tokens_000000.bin, ..., which appear by one
// rename.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/data/corpus.h"
#include "engine/data/sampler.h"
#include "engine/data/tokenizer.h"

namespace strait {

struct DataConfig {
  std::vector<std::string>
      corpus;  // one known name, or paths of text files, of shards, or of a directory
  std::optional<TokenizerSpec> tokenizer;  // none: bytes for text, what the header says for shards
  int32_t vocabulary =
      0;  // of shards that do not say; 0: GPT-2's 50,257 for uint16, Llama 3's 128,256
  double validation_fraction = 0.05;  // of the tokens, a contiguous tail of the stream; in [0, 1)
  int64_t context = 0;                // T
  uint64_t seed = 0;                  // orders the training samples
};

struct Dataset {
  std::string name;                            // "austen", or of the first file
  std::shared_ptr<const Tokenizer> tokenizer;  // null for shards without one
  int32_t vocabulary = 0;                      // every id is below it
  int32_t padded_vocabulary = 0;               // rows of embedding and head
  Sampler training;
  Sampler
      validation;  // no samples if validation_fraction is 0; its order does not depend on the seed
  std::string hash;     // 64 hexadecimal digits: tokens and tokenizer, not split, context or seed
  std::string origin;   // packages and versions, or empty
  std::string summary;  // one line for people: tokens, vocabulary, split
};

// Directories and lists of shards: files named `val.bin` or with `_val` in their name are the
// validation data, and then validation_fraction is not used. Throws std::invalid_argument: what
// find_corpus and train_sentencepiece refuse, context < 1, a fraction outside of [0, 1), a text or
// its validation part too short for one sample (says how short), shards that contradict each other
// or the tokenizer. Throws std::runtime_error: unreadable or damaged files, no network.
Dataset open_dataset(const DataConfig& config, PackageSource& source, const Notice& notice);
Dataset open_dataset(const DataConfig& config, const Notice& notice);  // with AptPackages

// The same from tokens in memory, without tokenizer: for tests.
Dataset dataset_from_tokens(std::vector<int32_t> tokens, int32_t vocabulary,
                            double validation_fraction, int64_t context, uint64_t seed);

}  // namespace strait
