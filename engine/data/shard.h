// Files of tokens, memory-mapped, and a stream of tokens made of one or more of them. All files are
// treated as hostile.
//
//   llmc_v1   256 x int32 header {20240520, 1, tokens, ...}, then uint16 tokens (GPT-2 data of
//   llm.c and its relatives) llmc_v7   256 x int32 header {20240801, 7, tokens, ...}, then uint32
//   tokens nanogpt   no header, uint16 tokens
//
// All little-endian. Files written here hold in header word 3 the vocabulary, in words 4 and 5 the
// low and high half of the tokenizer's hash, in word 6 the end-of-document token + 1; foreign files
// hold zeros there, which means unknown.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/data/files.h"

namespace strait {

enum class ShardFormat { llmc_v1, llmc_v7, nanogpt };
const char* to_string(ShardFormat format);

// What a shard says of its tokens. Zero: unknown.
struct TokenMetadata {
  int32_t vocabulary = 0;
  uint64_t tokenizer_hash = 0;
  int32_t end_of_document_plus_one = 0;

  bool operator==(const TokenMetadata&) const = default;
};

// One file, opened. Safe to read from any thread.
class Shard {
 public:
  // Detects the format unless it is given. Detection takes a file without a known magic number as
  // nanogpt, but not if its first 1,024 bytes look like a header with another number. Throws
  // std::runtime_error that names the file and what was found: wrong magic or version, evaluation
  // or other known formats, a size that is not what the header says, no tokens.
  explicit Shard(const std::filesystem::path& path,
                 std::optional<ShardFormat> format = std::nullopt);

  const std::filesystem::path& path() const { return file_.path(); }
  ShardFormat format() const { return format_; }
  int64_t tokens() const { return tokens_; }
  const TokenMetadata& metadata() const { return metadata_; }
  std::span<const uint8_t> bytes() const { return file_.bytes(); }

  // Copies tokens [begin, begin + count) to out. Throws std::runtime_error with file and byte
  // offset for a token that is not below `vocabulary`. Precondition: the range lies inside of the
  // file.
  void read(int64_t begin, int64_t count, int32_t vocabulary, int32_t* out) const;

 private:
  MappedFile file_;
  ShardFormat format_;
  int64_t tokens_ = 0;
  size_t data_offset_ = 0;
  TokenMetadata metadata_;
};

// Tokens [0, size) from shards, one after another, or from memory. Immutable; safe to read from any
// thread.
class TokenStream {
 public:
  TokenStream(std::vector<std::unique_ptr<Shard>> shards, int32_t vocabulary);
  TokenStream(std::vector<int32_t> tokens, int32_t vocabulary);  // for tests and small data

  int64_t size() const { return starts_.back(); }
  int32_t vocabulary() const { return vocabulary_; }
  void read(int64_t begin, int64_t count, int32_t* out) const;  // errors as Shard::read

  // 64 hexadecimal digits that identify the content. Of a file above 64 MiB only its size and 4,096
  // evenly spaced blocks of 4 KiB are hashed, so that opening a large data set stays quick.
  std::string content_hash() const;

 private:
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<int32_t> memory_;
  std::vector<int64_t> starts_;  // of each shard in the stream, then the size
  int32_t vocabulary_;
};

// Writes a token stream as files tokens_000000.bin, ... of at most `tokens_per_shard`: llmc_v1 if
// the vocabulary is at most 65,536, else llmc_v7. Throws std::runtime_error (full disk),
// std::out_of_range for a token outside of the vocabulary.
class ShardWriter {
 public:
  static constexpr int64_t kTokensPerShard = 100'000'000;
  ShardWriter(std::filesystem::path directory, const TokenMetadata& metadata,
              int64_t tokens_per_shard = kTokensPerShard);
  void write(std::span<const int32_t> tokens);
  int64_t finish();  // completes the last file; returns how many tokens were written. At least one
                     // file is made

 private:
  void open_file();
  void close_file();

  std::filesystem::path directory_;
  TokenMetadata metadata_;
  int64_t tokens_per_shard_;
  std::optional<OutputFile> file_;
  int64_t file_tokens_ = 0, total_tokens_ = 0;
  int files_ = 0;
};

}  // namespace strait
