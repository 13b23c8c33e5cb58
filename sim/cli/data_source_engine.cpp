#include <algorithm>
#include <stdexcept>
#include <utility>

#include "engine/data/dataset.h"
#include "engine/nn/model_shape.h"
#include "sim/cli/data_source.h"
#include "sim/cli/engine_bridge.h"

namespace strait::cli {
namespace {

class DatasetSource final : public BatchSource {
 public:
  explicit DatasetSource(Dataset dataset) : dataset_(std::move(dataset)) {}
  void training(int64_t index, int32_t* ids, int32_t* targets) const override {
    fill(dataset_.training, index, ids, targets);
  }
  void validation(int64_t index, int32_t* ids, int32_t* targets) const override {
    fill(dataset_.validation, index, ids, targets);
  }
  std::optional<int32_t> document_begin() const override {
    if (!dataset_.tokenizer) return std::nullopt;
    return dataset_.tokenizer->end_of_document();
  }

 private:
  static void fill(const Sampler& sampler, int64_t index, int32_t* ids, int32_t* targets) {
    thread_local std::vector<int32_t> unused;
    unused.resize(static_cast<size_t>(sampler.context()));
    sampler.fill(index, 1, ids != nullptr ? ids : unused.data(),
                 targets != nullptr ? targets : unused.data());
  }
  Dataset dataset_;
};

std::optional<TokenizerSpec> tokenizer_of(const scenario::Data& data) {
  TokenizerSpec spec;
  switch (data.tokenizer.kind) {
    case scenario::Tokenizer::Kind::byte:
      // Shards carry their own tokens: the default tokenizer says nothing about them.
      if (data.format == scenario::DataFormat::llmc ||
          data.format == scenario::DataFormat::nanogpt || find_corpus(data.corpus).shards)
        return std::nullopt;
      return spec;
    case scenario::Tokenizer::Kind::sentencepiece:
    case scenario::Tokenizer::Kind::bpe:
      break;
  }
  if (data.tokenizer.path.empty()) {
    spec.kind = TokenizerSpec::Kind::train;
    spec.vocabulary = data.tokenizer.vocabulary;
    spec.type = data.tokenizer.trained == scenario::Tokenizer::Trained::unigram
                    ? SentencePieceType::unigram
                    : SentencePieceType::bpe;
  } else {
    spec.kind = TokenizerSpec::Kind::model;
    spec.model = data.tokenizer.path;
  }
  return spec;
}

}  // namespace

OpenedData open_data(const scenario::Scenario& s,
                     const std::function<void(const std::string&)>& notice) {
  DataConfig config;
  config.corpus = s.data.corpus;
  config.tokenizer = tokenizer_of(s.data);
  config.vocabulary = s.model.vocabulary.value_or(0);
  config.validation_fraction = s.data.validation_fraction;
  config.context = s.model.context.value();
  config.seed = s.seed;
  Dataset dataset = open_dataset(config, notice);
  if (s.training.evaluate_every > 0 && dataset.validation.samples() == 0) {
    throw std::invalid_argument(
        "/training/evaluate_every asks for evaluation, but data.validation_fraction leaves no "
        "validation data");
  }
  if (s.model.vocabulary && *s.model.vocabulary < dataset.vocabulary) {
    throw std::invalid_argument("/model/vocabulary is " + std::to_string(*s.model.vocabulary) +
                                ", but the tokenizer has " + std::to_string(dataset.vocabulary) +
                                " tokens");
  }
  OpenedData data;
  data.vocabulary = dataset.padded_vocabulary;
  data.hash = dataset.hash;
  data.description = dataset.summary;
  if (dataset.tokenizer) {
    data.tokenizer_model = dataset.tokenizer->model_file();
    data.end_of_document_piece = dataset.tokenizer->end_of_document_piece();
    data.end_of_document = dataset.tokenizer->end_of_document();
  }
  data.source = std::make_unique<DatasetSource>(std::move(dataset));
  return data;
}

int stated_vocabulary(const scenario::Scenario& s) {
  if (s.model.vocabulary) return *s.model.vocabulary;
  if (s.data.tokenizer.vocabulary > 0) return padded_vocabulary(s.data.tokenizer.vocabulary);
  if (!s.data.tokenizer.path.empty())
    return padded_vocabulary(load_sentencepiece(s.data.tokenizer.path)->vocabulary());
  if (!s.model.preset.empty() && s.data.corpus.empty())
    return model_preset(s.model.preset).vocabulary;
  return padded_vocabulary(byte_tokenizer()->vocabulary());
}

}  // namespace strait::cli
