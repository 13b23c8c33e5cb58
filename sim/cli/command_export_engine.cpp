// strait export RUN_DIR: the model of a checkpoint in a format that others read (docs/export.md).
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <stdexcept>

#include "engine/checkpoint/checkpoint.h"
#include "engine/checkpoint/export_huggingface.h"
#include "engine/data/files.h"
#include "sim/cli/commands.h"
#include "sim/cli/data_source.h"
#include "sim/cli/load.h"

namespace strait::cli {
namespace {

namespace fs = std::filesystem;

Checkpoint choose_checkpoint(const ExportArguments& a) {
  const fs::path folder = fs::path(a.run) / "checkpoints";
  const std::vector<Checkpoint> found = list_checkpoints(folder);
  if (found.empty())
    throw WrongInput{
        fmt::format("{}: no checkpoint there; a run writes them with training.checkpoint_every",
                    folder.string())};
  if (a.checkpoint < 0) return found.back();
  std::vector<int64_t> steps;
  for (const Checkpoint& c : found) {
    if (c.manifest.step == a.checkpoint) return c;
    steps.push_back(c.manifest.step);
  }
  throw WrongInput{fmt::format("--checkpoint {}: {} holds none of that step; allowed: {}",
                               a.checkpoint, folder.string(), fmt::join(steps, ", "))};
}

// The SentencePiece model under the name and with the settings that LlamaTokenizer looks for.
void copy_tokenizer(const OpenedData& data, const fs::path& out) {
  write_file_atomically(out / "tokenizer.model", read_file(data.tokenizer_model));
  const nlohmann::ordered_json settings = {{"tokenizer_class", "LlamaTokenizer"},
                                           {"legacy", false},
                                           {"add_bos_token", false},
                                           {"add_eos_token", false},
                                           {"add_prefix_space", false},
                                           {"clean_up_tokenization_spaces", false},
                                           {"bos_token", data.end_of_document_piece},
                                           {"eos_token", data.end_of_document_piece},
                                           {"unk_token", "<unk>"}};
  write_file_atomically(out / "tokenizer_config.json", settings.dump(2) + "\n");
}

}  // namespace

int export_command(const ExportArguments& a) {
  if (a.format != "safetensors-hf")
    throw WrongInput{fmt::format("--format: found \"{}\"; allowed: safetensors-hf", a.format)};
  const Checkpoint checkpoint = choose_checkpoint(a);
  const scenario::Scenario s = load((fs::path(a.run) / "scenario.json").string(), {});
  HuggingFaceModel model{checkpoint.manifest.shape, checkpoint.manifest.method,
                         checkpoint.manifest.constraint, std::nullopt};
  OpenedData data;
  try {
    data = open_data(s, [](const std::string& line) { fmt::print("{}\n", line); });
    model.end_of_document = data.end_of_document;
  } catch (const std::exception& e) {
    fmt::print(stderr, "strait: the tokenizer is not exported: {}\n", e.what());
  }
  const fs::path out = a.out.empty() ? fs::path(a.run) / "export" : fs::path(a.out);
  fs::create_directories(out);
  KeyValueFold fold;
  try {
    fold = export_huggingface(open_model(checkpoint.folder), model, out);
  } catch (const std::invalid_argument& e) {
    throw WrongInput{fmt::format("{}: {}", checkpoint.folder.string(), e.what())};
  }
  if (!data.tokenizer_model.empty()) copy_tokenizer(data, out);
  fmt::print("{}: the model after step {} ({} tokens) as LlamaForCausalLM{}\n", out.string(),
             checkpoint.manifest.step, checkpoint.manifest.tokens,
             data.tokenizer_model.empty() ? "; its tokenizer has no Hugging Face form"
                                          : ", with its tokenizer");
  if (fold.layers > 0)
    fmt::print("keys and values of {} of {} layers are folded onto their subspaces{}\n",
               fold.layers, checkpoint.manifest.shape.layers,
               fold.angles ? "; the angles by which these turned with the text are left out: exact "
                             "where they were 0"
                           : "");
  return kDone;
}

}  // namespace strait::cli
