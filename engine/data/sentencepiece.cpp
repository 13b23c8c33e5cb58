// Tokenizers by the SentencePiece library: loading models of any type, and training them without
// randomness.
#include <fmt/format.h>
#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <stdexcept>
#include <unordered_map>

#include "engine/data/files.h"
#include "engine/data/tokenizer.h"
#include "sim/record/sha256.h"

namespace strait {

namespace fs = std::filesystem;

namespace {

constexpr size_t kEncodeBytes = size_t{1} << 20;  // text handed to the library at once
constexpr size_t kEncodeLineBytes = size_t{1}
                                    << 12;  // the same, where lines are independent: much faster
constexpr size_t kTrainingBytes = size_t{8} << 20;  // text that training looks at
constexpr size_t kBlockBytes = size_t{1} << 16;     // it is taken in blocks of this size
constexpr size_t kLongestSentence = 4000;     // bytes; the library skips longer ones than 4192
constexpr int32_t kSmallestVocabulary = 320;  // 256 bytes, two control tokens, some letters
constexpr int32_t kLargestVocabulary = 1'000'000;

// Length of a part of `text` of at most `bytes`, cut after a newline where there is one, else
// between characters.
size_t part_length(std::string_view text, size_t bytes, char separator) {
  if (text.size() <= bytes) return text.size();
  if (const size_t end = text.rfind(separator, bytes - 1); end != std::string_view::npos)
    return end + 1;
  size_t cut = bytes;
  while (cut > 1 && (static_cast<uint8_t>(text[cut]) & 0xC0) == 0x80) --cut;
  return cut;
}

class SentencePieceTokenizer : public Tokenizer {
 public:
  explicit SentencePieceTokenizer(const fs::path& model)
      : model_(model), name_(model.filename().string()) {
    const MappedFile file(model);
    const auto status =
        processor_.LoadFromSerializedProto({file.text().data(), file.text().size()});
    if (!status.ok()) {
      throw std::runtime_error(
          fmt::format("{}: not a SentencePiece model: {}", model.string(), status.ToString()));
    }
    end_ = processor_.eos_id() >= 0 ? processor_.eos_id() : processor_.bos_id();
    if (end_ < 0) {
      throw std::runtime_error(
          fmt::format("{}: this model has neither </s> nor <s>, so nothing can separate documents",
                      model.string()));
    }
    std::vector<int32_t> one_by_one, together;
    encode("a b\n", one_by_one);
    encode("a b\n", one_by_one);
    encode("a b\na b\n", together);
    if (one_by_one == together)
      encode_bytes_ = kEncodeLineBytes;  // no mark is put before the text, newlines stay
    hash_ = std::stoull(sha256_hex(file.bytes()).substr(0, 16), nullptr, 16);
  }

  int32_t vocabulary() const override { return processor_.GetPieceSize(); }
  int32_t end_of_document() const override { return end_; }
  uint64_t hash() const override { return hash_; }
  std::string name() const override { return name_; }
  fs::path model_file() const override { return model_; }
  std::string end_of_document_piece() const override { return processor_.IdToPiece(end_); }

  void encode(std::string_view text, std::vector<int32_t>& tokens) const override {
    std::vector<int> part;
    while (!text.empty()) {
      const size_t length = part_length(text, encode_bytes_, '\n');
      const auto status = processor_.Encode(text.substr(0, length), &part);
      if (!status.ok()) throw std::runtime_error(fmt::format("{}: {}", name_, status.ToString()));
      tokens.insert(tokens.end(), part.begin(), part.end());
      text.remove_prefix(length);
    }
  }

  std::string decode(std::span<const int32_t> tokens) const override {
    for (int32_t token : tokens) {
      if (token < 0 || token >= vocabulary()) {
        throw std::out_of_range(
            fmt::format("token {} is outside of the vocabulary of {}", token, name_));
      }
    }
    std::string text;
    const auto status = processor_.Decode(std::vector<int>(tokens.begin(), tokens.end()), &text);
    if (!status.ok()) throw std::runtime_error(fmt::format("{}: {}", name_, status.ToString()));
    return text;
  }

 private:
  sentencepiece::SentencePieceProcessor processor_;
  fs::path model_;
  std::string name_;
  size_t encode_bytes_ = kEncodeBytes;
  int32_t end_ = 0;
  uint64_t hash_ = 0;
};

// Lines of the texts, evenly thinned to kTrainingBytes; a long line is several sentences.
class TrainingLines : public sentencepiece::SentenceIterator {
 public:
  explicit TrainingLines(const std::vector<fs::path>& texts) {
    size_t total = 0;
    for (const auto& path : texts) {
      files_.push_back(std::make_unique<MappedFile>(path));
      total += files_.back()->bytes().size();
    }
    const size_t stride =
        total <= kTrainingBytes ? kBlockBytes : total / (kTrainingBytes / kBlockBytes);
    for (const auto& file : files_) {
      for (size_t begin = 0; begin < file->text().size(); begin += stride) {
        add_block(file->text(), begin, begin + kBlockBytes);
      }
    }
    Next();
  }

  bool done() const override { return done_; }
  const std::string& value() const override { return sentence_; }
  sentencepiece::util::Status status() const override { return {}; }

  void Next() override {
    while (rest_.empty()) {
      if (next_block_ == blocks_.size()) {
        done_ = true;
        return;
      }
      rest_ = blocks_[next_block_++];
    }
    const auto line = rest_.substr(0, rest_.find('\n'));
    const size_t length = part_length(line, kLongestSentence, ' ');
    sentence_.assign(rest_.substr(0, length));
    rest_.remove_prefix(length == line.size() ? std::min(length + 1, rest_.size()) : length);
  }

 private:
  // The lines that begin in [begin, end).
  void add_block(std::string_view text, size_t begin, size_t end) {
    const auto line_start = [&](size_t at) {
      if (at == 0) return at;
      const size_t newline = at >= text.size() ? std::string_view::npos : text.find('\n', at - 1);
      return newline == std::string_view::npos ? text.size() : newline + 1;
    };
    const size_t first = line_start(begin), last = line_start(end);
    if (first < last) blocks_.push_back(text.substr(first, last - first));
  }

  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<std::string_view> blocks_;
  size_t next_block_ = 0;
  std::string_view rest_;  // of the current block
  std::string sentence_;
  bool done_ = false;
};

}  // namespace

std::unique_ptr<Tokenizer> load_sentencepiece(const fs::path& model) {
  return std::make_unique<SentencePieceTokenizer>(model);
}

void train_sentencepiece(const std::vector<fs::path>& texts, int32_t vocabulary,
                         SentencePieceType type, const fs::path& out) {
  if (vocabulary < kSmallestVocabulary || vocabulary > kLargestVocabulary) {
    throw std::invalid_argument(
        fmt::format("a SentencePiece vocabulary of {} tokens: allowed are {} to {}", vocabulary,
                    kSmallestVocabulary, kLargestVocabulary));
  }
  TrainingLines lines(texts);
  const std::unordered_map<std::string, std::string> options = {
      {"model_type", type == SentencePieceType::bpe ? "bpe" : "unigram"},
      {"vocab_size", std::to_string(vocabulary)},
      {"num_threads", "1"},
      {"shuffle_input_sentence", "false"},
      {"byte_fallback", "true"},
      {"normalization_rule_name", "identity"},
      {"add_dummy_prefix", "false"},
      {"remove_extra_whitespaces", "false"},
      {"allow_whitespace_only_pieces", "true"},
      {"split_digits", "true"},
      {"bos_id", "-1"},
      {"unk_id", "0"},
      {"eos_id", "1"},
      {"minloglevel", "2"}};
  std::string model;
  const auto status = sentencepiece::SentencePieceTrainer::Train(options, &lines, &model);
  if (!status.ok()) {
    throw std::invalid_argument(
        fmt::format("cannot train a SentencePiece vocabulary of {} tokens on this text: {}",
                    vocabulary, status.ToString()));
  }
  write_file_atomically(out, model);
}

}  // namespace strait
