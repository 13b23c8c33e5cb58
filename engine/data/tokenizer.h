// Text to tokens and back. Two kinds: bytes, and SentencePiece models (unigram or BPE), given or
// trained here.
//
// Vocabulary and padding: ids are in [0, vocabulary). Embedding and head have padded_vocabulary
// rows: the next multiple of 64 (bytes 257 -> 320, GPT-2 50,257 -> 50,304), so that matrix kernels
// meet no ragged edge. Padding ids never occur in data.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/data/package.h"

namespace strait {

constexpr int32_t padded_vocabulary(int32_t vocabulary) { return (vocabulary + 63) / 64 * 64; }

// Immutable and safe to use from several threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual int32_t vocabulary() const = 0;
  virtual int32_t end_of_document()
      const = 0;  // stands before every document in a token stream, as in llm.c's files
  // Appends the tokens of `text`; adds no end of document.
  virtual void encode(std::string_view text, std::vector<int32_t>& tokens) const = 0;
  // The text of `tokens`; the end of document has none. Throws std::out_of_range for an id outside
  // of [0, vocabulary).
  virtual std::string decode(std::span<const int32_t> tokens) const = 0;
  // Equal hashes: the same text gives the same tokens. Written into shards.
  virtual uint64_t hash() const = 0;
  virtual std::string name() const = 0;  // "byte", or the model file's name
  // Of SentencePiece: the model file and how it writes end_of_document(). Else empty.
  virtual std::filesystem::path model_file() const { return {}; }
  virtual std::string end_of_document_piece() const { return {}; }
};

// Token b is byte b; 256 ends a document. Any bytes round-trip.
std::unique_ptr<Tokenizer> byte_tokenizer();

// A SentencePiece .model file of any type. Its end of document is </s>, else <s>. Text goes in as
// it is, cut after newlines into parts of at most 1 MiB (4 KiB, which is faster, where the model
// treats lines independently). Whether it round-trips is up to the model's normalisation and byte
// fallback; those trained here do. Throws std::runtime_error: unreadable, not a model, neither </s>
// nor <s>.
std::unique_ptr<Tokenizer> load_sentencepiece(const std::filesystem::path& model);

enum class SentencePieceType { bpe, unigram };

// Trains a model on the texts and writes it atomically to `out`. Deterministic: one thread, no
// random sampling; of long texts, 8 MiB in evenly spaced blocks of whole lines are used. No
// normalisation; rare characters, and newlines, fall back to bytes, so every valid UTF-8 text
// round-trips, but for U+2581, SentencePiece's mark for a space, which becomes one. Throws
// std::invalid_argument: vocabulary below 320 or above 1,000,000, or more than the text supports;
// std::runtime_error: files.
void train_sentencepiece(const std::vector<std::filesystem::path>& texts, int32_t vocabulary,
                         SentencePieceType type, const std::filesystem::path& out);

// A scenario's "tokenizer".
struct TokenizerSpec {
  enum class Kind { byte, model, train };
  Kind kind = Kind::byte;
  std::filesystem::path model;                      // Kind::model
  int32_t vocabulary = 0;                           // Kind::train
  SentencePieceType type = SentencePieceType::bpe;  // Kind::train
};

// "byte", {"sentencepiece": path}, {"bpe": path} (the same: a model file knows its type),
// {"sentencepiece": {"vocabulary": n, "type": "bpe"|"unigram"}}. Throws std::invalid_argument that
// says what is allowed.
TokenizerSpec parse_tokenizer(const nlohmann::json& value);

// Loads, or trains on demand into <cache>/tokenizers/<text hash>-<type>-<vocabulary>.model; the
// text is `texts`, known by `text_sha256` (Corpus). Processes that want the same model wait for
// each other.
std::unique_ptr<Tokenizer> open_tokenizer(const TokenizerSpec& spec,
                                          const std::vector<std::filesystem::path>& texts,
                                          const std::string& text_sha256, const Notice& notice);

}  // namespace strait
