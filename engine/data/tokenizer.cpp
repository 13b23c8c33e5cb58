// The byte tokenizer, and how a scenario names a tokenizer. SentencePiece is in sentencepiece.cpp.
#include "engine/data/tokenizer.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <stdexcept>

#include "engine/data/files.h"
#include "kernels/rng.h"

namespace strait {

namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr int32_t kBytes = 256;

class ByteTokenizer : public Tokenizer {
 public:
  int32_t vocabulary() const override { return kBytes + 1; }
  int32_t end_of_document() const override { return kBytes; }

  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    tokens.reserve(tokens.size() + text.size());
    for (char c : text) tokens.push_back(static_cast<uint8_t>(c));
  }

  std::string decode(std::span<const int32_t> tokens) const override {
    std::string text;
    for (int32_t token : tokens) {
      if (token < 0 || token > kBytes) {
        throw std::out_of_range(fmt::format("token {} is outside of the byte vocabulary", token));
      }
      if (token < kBytes) text += static_cast<char>(token);
    }
    return text;
  }

  uint64_t hash() const override { return hash_name("byte tokenizer, end of document 256"); }
  std::string name() const override { return "byte"; }
};

const char* const kAllowed =
    "a tokenizer is \"byte\", {\"sentencepiece\": PATH}, {\"bpe\": PATH} or "
    "{\"sentencepiece\": {\"vocabulary\": N, \"type\": \"bpe\" or \"unigram\"}}";

[[noreturn]] void not_allowed(const std::string& found) {
  throw std::invalid_argument(fmt::format("{}; found {}", kAllowed, found));
}

TokenizerSpec parse_training(const json& value) {
  TokenizerSpec spec{.kind = TokenizerSpec::Kind::train};
  for (const auto& [key, field] : value.items()) {
    if (key == "vocabulary" && field.is_number_integer() && field.get<double>() > 0 &&
        field.get<double>() <= 1e6) {
      spec.vocabulary = field.get<int32_t>();
    } else if (key == "type" && field == "bpe") {
      spec.type = SentencePieceType::bpe;
    } else if (key == "type" && field == "unigram") {
      spec.type = SentencePieceType::unigram;
    } else {
      not_allowed(fmt::format("\"{}\": {}", key, field.dump()));
    }
  }
  if (spec.vocabulary == 0) not_allowed("no \"vocabulary\"");
  return spec;
}

}  // namespace

std::unique_ptr<Tokenizer> byte_tokenizer() { return std::make_unique<ByteTokenizer>(); }

TokenizerSpec parse_tokenizer(const json& value) {
  if (value == "byte") return {};
  if (!value.is_object() || value.size() != 1) not_allowed(value.dump());
  const auto& key = value.begin().key();
  const auto& field = value.begin().value();
  if (key == "sentencepiece" && field.is_object()) return parse_training(field);
  if ((key != "sentencepiece" && key != "bpe") || !field.is_string()) not_allowed(value.dump());
  return {.kind = TokenizerSpec::Kind::model, .model = field.get<std::string>()};
}

std::unique_ptr<Tokenizer> open_tokenizer(const TokenizerSpec& spec,
                                          const std::vector<fs::path>& texts,
                                          const std::string& text_sha256, const Notice& notice) {
  if (spec.kind == TokenizerSpec::Kind::byte) return byte_tokenizer();
  if (spec.kind == TokenizerSpec::Kind::model) return load_sentencepiece(spec.model);
  const char* type = spec.type == SentencePieceType::bpe ? "bpe" : "unigram";
  const auto model =
      cache_directory() / "tokenizers" /
      fmt::format("{}-{}-{}.model", text_sha256.substr(0, 16), type, spec.vocabulary);
  if (!fs::exists(model)) {
    const FileLock lock(model.string() + ".lock");
    if (!fs::exists(model)) {
      if (notice)
        notice(fmt::format("training a SentencePiece {} tokenizer of {} tokens", type,
                           spec.vocabulary));
      train_sentencepiece(texts, spec.vocabulary, spec.type, model);
    }
  }
  return load_sentencepiece(model);
}

}  // namespace strait
