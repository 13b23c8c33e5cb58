// Opening data sets: tokenising text into cached shards, checking foreign shards, splitting, naming
// the content.
#include "engine/data/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "engine/data/files.h"
#include "kernels/check.h"
#include "sim/record/sha256.h"

namespace strait {

namespace fs = std::filesystem;

namespace {

constexpr int32_t kGpt2Vocabulary = 50257, kLlama3Vocabulary = 128256;

struct Opened {
  std::shared_ptr<const TokenStream> stream;
  int64_t training_end = -1;  // given by files of their own for validation; -1: by the fraction
  std::string content_hash;
};

std::vector<std::unique_ptr<Shard>> open_shards(const std::vector<fs::path>& paths) {
  std::vector<std::unique_ptr<Shard>> shards;
  for (const auto& path : paths) shards.push_back(std::make_unique<Shard>(path));
  return shards;
}

std::vector<fs::path> shard_files(const fs::path& directory) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(directory)) {
    if (entry.path().extension() == ".bin") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

void tokenise(const Corpus& corpus, const Tokenizer& tokenizer, const fs::path& directory,
              const Notice& notice) {
  constexpr int64_t kNoticeBytes = 100'000'000;
  if (notice)
    notice(fmt::format("tokenising {} ({} bytes) with {}", corpus.name, corpus.bytes,
                       tokenizer.name()));
  PendingDirectory pending(directory);
  ShardWriter writer(pending.path(), {.vocabulary = tokenizer.vocabulary(),
                                      .tokenizer_hash = tokenizer.hash(),
                                      .end_of_document_plus_one = tokenizer.end_of_document() + 1});
  std::vector<int32_t> tokens;
  std::unique_ptr<MappedFile> file;
  int64_t done = 0;
  for (const auto& document : corpus.documents()) {
    const auto& path = corpus.files[document.file];
    if (!file || file->path() != path) file = std::make_unique<MappedFile>(path);
    if (static_cast<size_t>(document.end) > file->text().size()) {
      throw std::runtime_error(fmt::format("{}: became shorter while it was read", path.string()));
    }
    tokens.assign(1, tokenizer.end_of_document());
    tokenizer.encode(file->text().substr(static_cast<size_t>(document.begin),
                                         static_cast<size_t>(document.end - document.begin)),
                     tokens);
    writer.write(tokens);
    const int64_t before = done;
    done += document.end - document.begin;
    if (notice && before / kNoticeBytes != done / kNoticeBytes) {
      notice(fmt::format("tokenised {} of {} MB", done / 1'000'000, corpus.bytes / 1'000'000));
    }
  }
  writer.finish();
  pending.publish();
}

Opened open_text(const Corpus& corpus, const Tokenizer& tokenizer, const Notice& notice) {
  const auto directory = cache_directory() / "tokens" /
                         fmt::format("{}-{:016x}", corpus.sha256.substr(0, 16), tokenizer.hash());
  if (!fs::exists(directory)) {
    const FileLock lock(directory.string() + ".lock");
    if (!fs::exists(directory)) {
      PendingDirectory::remove_leftovers(directory);
      tokenise(corpus, tokenizer, directory, notice);
    }
  }
  const auto files = shard_files(directory);
  if (files.empty()) {
    throw std::runtime_error(
        fmt::format("{}: holds no shards; delete it to have it made again", directory.string()));
  }
  auto shards = open_shards(files);
  for (const auto& shard : shards) {
    if (shard->metadata().tokenizer_hash != tokenizer.hash()) {
      throw std::runtime_error(fmt::format("{}: damaged; delete {} to have it made again",
                                           shard->path().string(), directory.string()));
    }
  }
  return {.stream = std::make_shared<TokenStream>(std::move(shards), tokenizer.vocabulary()),
          .content_hash = sha256_hex(fmt::format("{} {:016x}", corpus.sha256, tokenizer.hash()))};
}

bool is_validation_file(const fs::path& path) {
  const auto stem = path.stem().string();
  return stem == "val" || stem.find("_val") != std::string::npos;
}

[[noreturn]] void contradiction(const Shard& shard, const std::string& what,
                                const std::string& other) {
  throw std::invalid_argument(fmt::format("{}: {}, but {}", shard.path().string(), what, other));
}

// The vocabulary of shards: what they say, else what the configuration says, else what the format
// is known for.
int32_t shard_vocabulary(const std::vector<std::unique_ptr<Shard>>& shards,
                         const DataConfig& config, const Tokenizer* tokenizer) {
  const Shard& first = *shards.front();
  for (const auto& shard : shards) {
    if (!(shard->metadata() == first.metadata()) || shard->format() != first.format()) {
      contradiction(*shard, "another format, vocabulary or tokenizer than " + first.path().string(),
                    "all shards of a corpus must agree");
    }
  }
  const auto& metadata = first.metadata();
  const int32_t asked = tokenizer ? tokenizer->vocabulary() : config.vocabulary;
  if (tokenizer && metadata.tokenizer_hash != 0 && metadata.tokenizer_hash != tokenizer->hash()) {
    contradiction(first, "written with another tokenizer",
                  "the scenario names " + tokenizer->name());
  }
  if (metadata.vocabulary != 0) {
    if (asked != 0 && asked != metadata.vocabulary) {
      contradiction(first, fmt::format("its vocabulary is {}", metadata.vocabulary),
                    fmt::format("{} is asked for", asked));
    }
    return metadata.vocabulary;
  }
  if (asked != 0) return asked;
  return first.format() == ShardFormat::llmc_v7 ? kLlama3Vocabulary : kGpt2Vocabulary;
}

Opened open_shard_files(const CorpusSpec& spec, const DataConfig& config,
                        const Tokenizer* tokenizer) {
  auto paths = spec.paths;
  const auto validation = std::stable_partition(
      paths.begin(), paths.end(), [](const fs::path& p) { return !is_validation_file(p); });
  const bool separate = validation != paths.begin() && validation != paths.end();
  auto shards = open_shards(paths);
  const int32_t vocabulary = shard_vocabulary(shards, config, tokenizer);
  Opened opened;
  if (separate) {
    opened.training_end = 0;
    for (auto i = paths.begin(); i != validation; ++i) {
      opened.training_end += shards[static_cast<size_t>(i - paths.begin())]->tokens();
    }
  }
  opened.stream = std::make_shared<TokenStream>(std::move(shards), vocabulary);
  opened.content_hash = sha256_hex(fmt::format("{} {}", opened.stream->content_hash(), vocabulary));
  return opened;
}

void check_config(const DataConfig& config) {
  if (config.context < 1)
    throw std::invalid_argument(
        fmt::format("context {}: at least 1 token is needed", config.context));
  if (!(config.validation_fraction >= 0 && config.validation_fraction < 1)) {
    throw std::invalid_argument(fmt::format(
        "validation_fraction {}: allowed is 0 up to, but not, 1", config.validation_fraction));
  }
  if (config.vocabulary < 0)
    throw std::invalid_argument(fmt::format("vocabulary {}: below zero", config.vocabulary));
}

// Training [0, training_end), validation the rest: no token is in both.
void split(Dataset& dataset, const Opened& opened, const DataConfig& config) {
  const int64_t size = opened.stream->size(), context = config.context;
  int64_t training_end = opened.training_end;
  if (training_end < 0) {
    training_end = size - static_cast<int64_t>(
                              std::ceil(config.validation_fraction * static_cast<double>(size)));
  }
  const int64_t held_out = size - training_end;
  dataset.training = Sampler(opened.stream, 0, training_end, context, config.seed);
  dataset.validation = Sampler(opened.stream, training_end, size, context, 0);
  if (dataset.training.samples() == 0) {
    throw std::invalid_argument(fmt::format(
        "corpus {} is too small: {} tokens to train on, and one sample of context {} needs {}",
        dataset.name, training_end, context, context + 1));
  }
  if (held_out > 0 && dataset.validation.samples() == 0) {
    throw std::invalid_argument(fmt::format(
        "corpus {} is too small: validation_fraction {} of {} tokens leaves {} to validate on, and "
        "one sample of "
        "context {} needs {}; raise validation_fraction, shorten the context, or set it to 0",
        dataset.name, config.validation_fraction, size, held_out, context, context + 1));
  }
  dataset.summary =
      fmt::format("{}: {} tokens, vocabulary {} ({}), {} training and {} validation samples of {}",
                  dataset.name, size, dataset.vocabulary,
                  dataset.tokenizer ? dataset.tokenizer->name() : "pre-tokenised",
                  dataset.training.samples(), dataset.validation.samples(), context);
}

void describe(Dataset& dataset, const Opened& opened) {
  dataset.vocabulary = opened.stream->vocabulary();
  dataset.padded_vocabulary = padded_vocabulary(dataset.vocabulary);
  dataset.hash = opened.content_hash;
}

}  // namespace

Dataset open_dataset(const DataConfig& config, PackageSource& source, const Notice& notice) {
  check_config(config);
  const CorpusSpec spec = find_corpus(config.corpus);
  Dataset dataset;
  Opened opened;
  if (spec.shards) {
    if (config.tokenizer && config.tokenizer->kind == TokenizerSpec::Kind::train) {
      throw std::invalid_argument(
          "a tokenizer cannot be trained on token shards; name its model file, or none");
    }
    if (config.tokenizer) dataset.tokenizer = open_tokenizer(*config.tokenizer, {}, "", notice);
    dataset.name = spec.paths.front().filename().string();
    opened = open_shard_files(spec, config, dataset.tokenizer.get());
  } else {
    const Corpus corpus = open_corpus(spec, source, notice);
    dataset.tokenizer = open_tokenizer(config.tokenizer.value_or(TokenizerSpec{}), corpus.files,
                                       corpus.sha256, notice);
    dataset.name = corpus.name;
    dataset.origin = corpus.origin;
    opened = open_text(corpus, *dataset.tokenizer, notice);
  }
  describe(dataset, opened);
  split(dataset, opened, config);
  return dataset;
}

Dataset open_dataset(const DataConfig& config, const Notice& notice) {
  AptPackages packages;
  return open_dataset(config, packages, notice);
}

Dataset dataset_from_tokens(std::vector<int32_t> tokens, int32_t vocabulary,
                            double validation_fraction, int64_t context, uint64_t seed) {
  const DataConfig config{
      .validation_fraction = validation_fraction, .context = context, .seed = seed};
  check_config(config);
  Dataset dataset;
  dataset.name = "tokens in memory";
  Opened opened;
  opened.stream = std::make_shared<TokenStream>(std::move(tokens), vocabulary);
  opened.content_hash = sha256_hex(fmt::format("{} {}", opened.stream->content_hash(), vocabulary));
  describe(dataset, opened);
  split(dataset, opened, config);
  return dataset;
}

}  // namespace strait
