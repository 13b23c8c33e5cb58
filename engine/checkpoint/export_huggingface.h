// A trained model as Hugging Face's LlamaForCausalLM reads it: model.safetensors with its names, and config.json. What Strait stacks
// (q,k,v; gate,up) is taken apart. A subspace model is folded into plain weights, which is exact up to rounding, because variant C
// constrains what the layers write and leaves what they compute alone (engine/codec/subspace_fold.h). The
// boundaries' codec then is the identity on everything that crosses, and nothing of it remains.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "engine/checkpoint/safetensors.h"
#include "engine/codec/method.h"
#include "engine/nn/model_shape.h"

namespace strait {

struct HuggingFaceModel {
  ModelShape shape;
  std::string method = "none";  // of the pipeline boundaries
  ModelConstraint constraint;
  std::optional<int> end_of_document;  // token id
};

// What became of keys and values that were trained in subspaces (docs/mixture_of_subspaces.md): projections folded onto their bases, which is
// the trained model at an angle of 0.
struct KeyValueFold {
  int layers = 0;       // that were folded
  bool angles = false;  // whether bases turned by angles, which are left out
};

// Writes model.safetensors (fp32) and config.json into `directory`, which exists, from a checkpoint's model file (open_model()).
// Throws std::invalid_argument for a method that leaves no plain LLaMA, with the reason, for parameters that are not those of
// such a model, and where copies have parameters of their own (parallel.synchronisation) that differ; SafetensorsError and std::runtime_error where a file cannot be read or written.
KeyValueFold export_huggingface(const SafetensorsFile& parameters, const HuggingFaceModel& model,
                                const std::filesystem::path& directory);

}  // namespace strait
