// The data of a scenario as the engine's trainer wants it.
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "engine/training.h"
#include "sim/scenario/scenario.h"

namespace strait::cli {

struct OpenedData {
  std::unique_ptr<BatchSource> source;
  int vocabulary = 0;                     // rows of the embedding, padding included
  std::string hash;                       // of tokens and tokenizer, for the summary
  std::string description;                // one line for people
  std::filesystem::path tokenizer_model;  // the SentencePiece file; empty where there is none
  std::string end_of_document_piece;      // how that file writes the token
  std::optional<int> end_of_document;     // token id, where the tokenizer is known
};

// Fetches, tokenises and opens what the scenario names; `notice` gets one line for each thing that takes long.
// Throws std::invalid_argument or std::runtime_error with a text the user can act on.
OpenedData open_data(const scenario::Scenario& scenario,
                     const std::function<void(const std::string&)>& notice);

// The vocabulary as far as it is known without touching the data: stated by the model or the tokenizer; 0 if it is not.
int stated_vocabulary(const scenario::Scenario& scenario);

}  // namespace strait::cli
