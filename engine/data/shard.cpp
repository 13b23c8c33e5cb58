// Reading and writing token shards. Nothing in a header is believed before the file's size has
// confirmed it.
#include "engine/data/shard.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <stdexcept>
#include <type_traits>

#include "kernels/check.h"
#include "sim/record/sha256.h"

namespace strait {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little, "shards are read in place");

namespace {

constexpr size_t kHeaderWords = 256, kHeaderBytes = 1024;
constexpr int32_t kMagicV1 = 20240520, kMagicV7 = 20240801, kMagicEvaluation = 20240522;
constexpr int32_t kLargestUint16Vocabulary = 65536;
using Header = std::array<int32_t, kHeaderWords>;

[[noreturn]] void refuse(const fs::path& path, const std::string& why) {
  throw std::runtime_error(fmt::format("{}: {}", path.string(), why));
}

size_t token_bytes(ShardFormat format) { return format == ShardFormat::llmc_v7 ? 4 : 2; }

// The first 1,024 bytes, zeros beyond the end of the file.
Header read_header(std::span<const uint8_t> bytes) {
  Header header{};
  std::memcpy(header.data(), bytes.data(), std::min(bytes.size(), kHeaderBytes));
  return header;
}

// Token data does not have 249 words of zeros where llm.c's header has them.
bool looks_like_a_header(const Header& header, size_t file_bytes) {
  return file_bytes >= kHeaderBytes &&
         std::all_of(header.begin() + 7, header.end(), [](int32_t word) { return word == 0; });
}

ShardFormat detect(const fs::path& path, const Header& header, size_t file_bytes) {
  if (header[0] == kMagicV1) return ShardFormat::llmc_v1;
  if (header[0] == kMagicV7) return ShardFormat::llmc_v7;
  if (header[0] == kMagicEvaluation) {
    refuse(path, "a multiple-choice evaluation file of llm.c, not a stream of tokens");
  }
  if (std::memcmp(header.data(), "BIN.TOK\n", 8) == 0) {
    refuse(path, "a BIN.TOK file; allowed are llm.c files of version 1 and 7 and nanoGPT files");
  }
  if (looks_like_a_header(header, file_bytes)) {
    refuse(path,
           fmt::format("unknown magic number {}; allowed are {} (llm.c, uint16) and {} (uint32)",
                       header[0], kMagicV1, kMagicV7));
  }
  return ShardFormat::nanogpt;
}

void check_header(const fs::path& path, ShardFormat format, const Header& header,
                  size_t file_bytes) {
  const int32_t magic = format == ShardFormat::llmc_v1 ? kMagicV1 : kMagicV7;
  const int32_t version = format == ShardFormat::llmc_v1 ? 1 : 7;
  if (file_bytes < kHeaderBytes) {
    refuse(path,
           fmt::format("truncated: {} bytes, the header alone has {}", file_bytes, kHeaderBytes));
  }
  if (header[0] != magic || header[1] != version) {
    refuse(path, fmt::format("magic number {} and version {}; {} has {} and {}", header[0],
                             header[1], to_string(format), magic, version));
  }
  if (header[2] <= 0) refuse(path, fmt::format("its header says {} tokens", header[2]));
  const auto expected = kHeaderBytes + token_bytes(format) * static_cast<size_t>(header[2]);
  if (file_bytes != expected) {
    refuse(path,
           fmt::format("{} bytes, but its header says {} tokens, which is {} bytes: truncated or "
                       "damaged",
                       file_bytes, header[2], expected));
  }
}

template <typename Word>
void read_words(const Shard& shard, const uint8_t* data, int64_t begin, int64_t count,
                int32_t vocabulary, int32_t* out) {
  for (int64_t i = 0; i < count; ++i) {
    Word word;
    const size_t offset = static_cast<size_t>(begin + i) * sizeof(Word);
    std::memcpy(&word, data + offset, sizeof(Word));
    if (word >= static_cast<uint32_t>(vocabulary)) {
      refuse(shard.path(),
             fmt::format("token {} at byte {} is not below the vocabulary of {}", word,
                         static_cast<size_t>(data - shard.bytes().data()) + offset, vocabulary));
    }
    out[i] = static_cast<int32_t>(word);
  }
}

std::string hash_file(std::span<const uint8_t> bytes) {
  constexpr size_t kWhole = size_t{64} << 20, kBlocks = 4096, kBlockBytes = 4096;
  if (bytes.size() <= kWhole) return sha256_hex(bytes);
  Sha256 hash;
  hash.update(std::to_string(bytes.size()));
  for (size_t i = 0; i < kBlocks; ++i) {
    hash.update(bytes.subspan(i * ((bytes.size() - kBlockBytes) / (kBlocks - 1)), kBlockBytes));
  }
  return hash.hex();
}

}  // namespace

const char* to_string(ShardFormat format) {
  switch (format) {
    case ShardFormat::llmc_v1:
      return "llm.c version 1 (uint16)";
    case ShardFormat::llmc_v7:
      return "llm.c version 7 (uint32)";
    case ShardFormat::nanogpt:
      return "nanoGPT (uint16, no header)";
  }
  return "unknown";
}

Shard::Shard(const fs::path& path, std::optional<ShardFormat> format) : file_(path) {
  const size_t size = file_.bytes().size();
  if (size == 0) refuse(path, "an empty file");
  const Header header = read_header(file_.bytes());
  format_ = format ? *format : detect(path, header, size);
  if (format_ == ShardFormat::nanogpt) {
    if (size % 2 != 0)
      refuse(path, fmt::format("{} bytes are not a whole number of uint16 tokens", size));
    tokens_ = static_cast<int64_t>(size / 2);
    return;
  }
  check_header(path, format_, header, size);
  tokens_ = header[2];
  data_offset_ = kHeaderBytes;
  metadata_ = {.vocabulary = header[3],
               .tokenizer_hash = static_cast<uint32_t>(header[4]) |
                                 uint64_t{static_cast<uint32_t>(header[5])} << 32,
               .end_of_document_plus_one = header[6]};
  if (metadata_.vocabulary < 0 || metadata_.end_of_document_plus_one < 0 ||
      metadata_.end_of_document_plus_one > metadata_.vocabulary) {
    refuse(path, fmt::format("impossible header: vocabulary {}, end of document {}", header[3],
                             header[6] - 1));
  }
}

void Shard::read(int64_t begin, int64_t count, int32_t vocabulary, int32_t* out) const {
  STRAIT_CHECK(begin >= 0 && count >= 0 && begin <= tokens_ && count <= tokens_ - begin);
  const uint8_t* data = file_.bytes().data() + data_offset_;
  if (token_bytes(format_) == 2) {
    read_words<uint16_t>(*this, data, begin, count, vocabulary, out);
  } else {
    read_words<uint32_t>(*this, data, begin, count, vocabulary, out);
  }
}

TokenStream::TokenStream(std::vector<std::unique_ptr<Shard>> shards, int32_t vocabulary)
    : shards_(std::move(shards)), starts_{0}, vocabulary_(vocabulary) {
  STRAIT_CHECK(!shards_.empty() && vocabulary > 0);
  for (const auto& shard : shards_) starts_.push_back(starts_.back() + shard->tokens());
}

TokenStream::TokenStream(std::vector<int32_t> tokens, int32_t vocabulary)
    : memory_(std::move(tokens)),
      starts_{0, static_cast<int64_t>(memory_.size())},
      vocabulary_(vocabulary) {
  STRAIT_CHECK(vocabulary > 0);
  for (int32_t token : memory_) STRAIT_CHECK(token >= 0 && token < vocabulary);
}

void TokenStream::read(int64_t begin, int64_t count, int32_t* out) const {
  STRAIT_CHECK(begin >= 0 && count >= 0 && begin <= size() && count <= size() - begin);
  if (shards_.empty()) {
    std::copy_n(memory_.begin() + begin, count, out);
    return;
  }
  auto next = std::upper_bound(starts_.begin(), starts_.end(), begin);
  while (count > 0) {
    const auto index = static_cast<size_t>(next - starts_.begin()) - 1;
    const int64_t part = std::min(count, *next - begin);
    shards_[index]->read(begin - starts_[index], part, vocabulary_, out);
    begin += part, out += part, count -= part;
    ++next;
  }
}

std::string TokenStream::content_hash() const {
  Sha256 hash;
  for (const auto& shard : shards_) hash.update(hash_file(shard->bytes()));
  hash.update(std::span(reinterpret_cast<const uint8_t*>(memory_.data()),
                        memory_.size() * sizeof(int32_t)));
  return hash.hex();
}

ShardWriter::ShardWriter(fs::path directory, const TokenMetadata& metadata,
                         int64_t tokens_per_shard)
    : directory_(std::move(directory)), metadata_(metadata), tokens_per_shard_(tokens_per_shard) {
  STRAIT_CHECK(metadata.vocabulary > 0 && tokens_per_shard > 0 && tokens_per_shard <= INT32_MAX);
  open_file();
}

void ShardWriter::open_file() {
  file_.emplace(directory_ / fmt::format("tokens_{:06}.bin", files_++));
  file_->write(
      std::string(kHeaderBytes, '\0'));  // no magic number yet: an unfinished file is refused
  file_tokens_ = 0;
}

void ShardWriter::close_file() {
  const bool narrow = metadata_.vocabulary <= kLargestUint16Vocabulary;
  const std::array<int32_t, 7> words = {narrow ? kMagicV1 : kMagicV7,
                                        narrow ? 1 : 7,
                                        static_cast<int32_t>(file_tokens_),
                                        metadata_.vocabulary,
                                        static_cast<int32_t>(metadata_.tokenizer_hash),
                                        static_cast<int32_t>(metadata_.tokenizer_hash >> 32),
                                        metadata_.end_of_document_plus_one};
  file_->write_at(0, words.data(), sizeof(words));
  file_->finish();
}

void ShardWriter::write(std::span<const int32_t> tokens) {
  const bool narrow = metadata_.vocabulary <= kLargestUint16Vocabulary;
  std::vector<uint16_t> words;
  for (int32_t token : tokens) {
    if (token < 0 || token >= metadata_.vocabulary) {
      throw std::out_of_range(
          fmt::format("token {} is outside of the vocabulary of {}", token, metadata_.vocabulary));
    }
  }
  while (!tokens.empty()) {
    if (file_tokens_ == tokens_per_shard_) {
      close_file();
      open_file();
    }
    const auto part = tokens.first(static_cast<size_t>(
        std::min(static_cast<int64_t>(tokens.size()), tokens_per_shard_ - file_tokens_)));
    if (narrow) {
      words.assign(part.begin(), part.end());
      file_->write(words.data(), words.size() * sizeof(uint16_t));
    } else {
      file_->write(part.data(), part.size_bytes());
    }
    file_tokens_ += static_cast<int64_t>(part.size());
    total_tokens_ += static_cast<int64_t>(part.size());
    tokens = tokens.subspan(part.size());
  }
}

int64_t ShardWriter::finish() {
  close_file();
  return total_tokens_;
}

}  // namespace strait
