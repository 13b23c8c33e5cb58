// Takes stacked matrices apart, folds subspace models, and writes the tensors in the order of the layers (export_huggingface.h). Of
// the model no more than a layer is in memory at a time.
#include "engine/checkpoint/export_huggingface.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include "engine/codec/method.h"
#include "engine/context/unplug.h"
#include "engine/data/files.h"

namespace strait {
namespace {

using Values = std::vector<float>;

std::string layer_name(int layer, const char* name) {
  return fmt::format("model.layers.{}.{}", layer, name);
}

// Reads the checkpoint's parameters one by one as those of a plain LLaMA, checked, and knows at the end which nobody asked for.
class Source {
 public:
  Source(const SafetensorsFile& file, const HuggingFaceModel& model)
      : file_(file),
        method_(make_method(model.constraint, model.shape)),
        plain_(unplugged([this](const std::string& name) { return plain(name); },
                         [this](const std::string& name) { return read(name); }, model.shape)) {}
  Source(const Source&) = delete;
  Source& operator=(const Source&) = delete;

  Values take(const std::string& name, const Shape& shape) {
    const std::optional<ParameterState> p = plain_(name);
    if (!p) throw std::invalid_argument(fmt::format("the checkpoint has no parameter {}", name));
    if (!(p->shape == shape))
      throw std::invalid_argument(fmt::format("parameter {} is {}; the model's shape wants {}",
                                              name, to_string(p->shape), to_string(shape)));
    Values values(p->master.size() / sizeof(float));
    std::memcpy(values.data(), p->master.data(), p->master.size());
    return values;
  }

  void check_all_taken() {
    for (const auto& [name, entry] : file_.tensors())
      if (!taken_.contains(name) && !method_->adds(name) && !of_folded(name) && !of_copy(name))
        throw std::invalid_argument(fmt::format(
            "parameter {} has no place in a plain LLaMA: the model cannot be exported", name));
  }

  KeyValueFold folded() const {
    KeyValueFold fold;
    for (const std::string& name : taken_) {
      if (!name.ends_with(fmt::format("{}k.frames", kMixtureStates)) || !of_folded(name)) continue;
      ++fold.layers;
      fold.angles =
          fold.angles || file_.entry(name).shape.at(1) > 1;  // (G, J, w r); J 1: Ubar alone
    }
    return fold;
  }

 private:
  std::optional<ParameterState> plain(const std::string& name) {
    std::optional<ParameterState> p = read(name);
    if (!p) p = method_->to_plain(name, [this](const std::string& n) { return read(n); });
    return p;
  }

  // What belongs to keys and values of a layer whose bases have been folded into its weights.
  bool of_folded(const std::string& name) const {
    const size_t at = name.find(kMixtureStates);
    const auto taken = [&](const char* z) {
      return taken_.contains(fmt::format("{}{}{}.frames", name.substr(0, at), kMixtureStates, z));
    };
    return at != std::string::npos && taken("k") && taken("v");
  }

  std::optional<ParameterState> read(const std::string& name) {
    if (!file_.tensors().contains(name)) return std::nullopt;
    const SafetensorsEntry& found = file_.entry(name);
    if (found.dtype != safetensors_dtype(DType::f32) || found.shape.size() > 4)
      throw std::invalid_argument(
          fmt::format("parameter {} is {} ({}); parameters are {} of at most 4 dimensions", name,
                      found.dtype, fmt::join(found.shape, ", "), safetensors_dtype(DType::f32)));
    ParameterState p{name, {}, DType::f32, std::vector<std::byte>(found.bytes), {}, {}};
    p.shape.rank = static_cast<int>(found.shape.size());
    std::copy(found.shape.begin(), found.shape.end(), p.shape.dims.begin());
    file_.read(name, p.master.data(), DType::f32, found.shape);
    taken_.insert(name);
    return p;
  }

  // Whether it is another copy's parameter (copy_name()) that is written as the first one's. Throws where they differ.
  bool of_copy(const std::string& name) {
    const std::string first = name.substr(0, name.rfind(".copy."));
    if (first == name || of_folded(first)) return first != name;
    if (!taken_.contains(first)) return false;
    if (read(first)->master != read(name)->master)
      throw std::invalid_argument(fmt::format(
          "parameter {} differs between copies, which have not been averaged at this step: export "
          "a "
          "checkpoint of a step that is a multiple of parallel.synchronisation.every, or the last "
          "one, of a training with scope all",
          first));
    return true;
  }

  const SafetensorsFile& file_;
  std::unique_ptr<Method> method_;
  ParameterSource plain_;
  std::set<std::string> taken_;
};

// Writes tensors in the order of tensor_names().
class Exporter {
 public:
  Exporter(const SafetensorsFile& parameters, const HuggingFaceModel& model)
      : model_(model), source_(parameters, model) {}

  void write(const std::filesystem::path& path) {
    SafetensorsWriter writer(path.string(), declarations(), {{"format", "pt"}});
    const auto whole = [&](const std::string& name, const Shape& shape) {
      writer.write(name, source_.take(name, shape).data());
    };
    const int64_t c = model_.shape.width, v = model_.shape.vocabulary;
    whole("model.embed_tokens.weight", {v, c});
    for (int layer = 0; layer < model_.shape.layers; ++layer) write_layer(writer, layer);
    whole("model.norm.weight", {c});
    whole("lm_head.weight", {v, c});
    source_.check_all_taken();
    writer.finish();
  }
  KeyValueFold folded() const { return source_.folded(); }

 private:
  struct Sizes {
    int64_t c, q, kv, f;
  };
  Sizes sizes() const {
    const ModelShape& s = model_.shape;
    return {s.width, int64_t{s.heads} * s.head_width, int64_t{s.kv_heads} * s.head_width,
            s.ffn_width};
  }

  std::vector<SafetensorsWriter::Declaration> declarations() const {
    const auto [c, q, kv, f] = sizes();
    const int64_t v = model_.shape.vocabulary;
    std::vector<SafetensorsWriter::Declaration> tensors;
    const auto add = [&](const std::string& name, const std::vector<int64_t>& shape) {
      tensors.push_back({name, DType::f32, shape});
    };
    add("model.embed_tokens.weight", {v, c});
    for (int layer = 0; layer < model_.shape.layers; ++layer) {
      add(layer_name(layer, "input_layernorm.weight"), {c});
      add(layer_name(layer, "self_attn.q_proj.weight"), {q, c});
      add(layer_name(layer, "self_attn.k_proj.weight"), {kv, c});
      add(layer_name(layer, "self_attn.v_proj.weight"), {kv, c});
      add(layer_name(layer, "self_attn.o_proj.weight"), {c, q});
      add(layer_name(layer, "post_attention_layernorm.weight"), {c});
      add(layer_name(layer, "mlp.gate_proj.weight"), {f, c});
      add(layer_name(layer, "mlp.up_proj.weight"), {f, c});
      add(layer_name(layer, "mlp.down_proj.weight"), {c, f});
    }
    add("model.norm.weight", {c});
    add("lm_head.weight", {v, c});
    return tensors;
  }

  void write_layer(SafetensorsWriter& writer, int layer) {
    const auto [c, q, kv, f] = sizes();
    // Rows of a stacked matrix (rows, C) under a name of their own.
    const auto rows = [&, c = c](const char* name, const Values& stacked, int64_t first) {
      writer.write(layer_name(layer, name), stacked.data() + first * c);
    };
    const auto whole = [&](const char* name, const Shape& shape) {
      writer.write(layer_name(layer, name), source_.take(layer_name(layer, name), shape).data());
    };
    whole("input_layernorm.weight", {c});
    const Values qkv =
        source_.take(layer_name(layer, "self_attn.qkv_proj.weight"), {q + 2 * kv, c});
    rows("self_attn.q_proj.weight", qkv, 0);
    rows("self_attn.k_proj.weight", qkv, q);
    rows("self_attn.v_proj.weight", qkv, q + kv);
    whole("self_attn.o_proj.weight", {c, q});
    whole("post_attention_layernorm.weight", {c});
    const Values gate_up = source_.take(layer_name(layer, "mlp.gate_up_proj.weight"), {2 * f, c});
    rows("mlp.gate_proj.weight", gate_up, 0);
    rows("mlp.up_proj.weight", gate_up, f);
    whole("mlp.down_proj.weight", {c, f});
  }

  const HuggingFaceModel& model_;
  Source source_;
};

std::string config_json(const HuggingFaceModel& model) {
  const ModelShape& s = model.shape;
  nlohmann::ordered_json json = {{"architectures", {"LlamaForCausalLM"}},
                                 {"model_type", "llama"},
                                 {"vocab_size", s.vocabulary},
                                 {"hidden_size", s.width},
                                 {"intermediate_size", s.ffn_width},
                                 {"num_hidden_layers", s.layers},
                                 {"num_attention_heads", s.heads},
                                 {"num_key_value_heads", s.kv_heads},
                                 {"head_dim", s.head_width},
                                 {"max_position_embeddings", s.context},
                                 {"rope_theta", s.rope_theta},
                                 {"rope_scaling", nullptr},
                                 {"rms_norm_eps", s.norm_eps},
                                 {"hidden_act", "silu"},
                                 {"attention_bias", false},
                                 {"mlp_bias", false},
                                 {"attention_dropout", 0.0},
                                 {"tie_word_embeddings", false},
                                 {"initializer_range", 0.02},
                                 {"use_cache", true},
                                 {"torch_dtype", "float32"}};
  // A token stream has this token before every document: it begins a text and ends one.
  const nlohmann::ordered_json id =
      model.end_of_document ? nlohmann::ordered_json(*model.end_of_document) : nullptr;
  json["bos_token_id"] = id;
  json["eos_token_id"] = id;
  json["pad_token_id"] = nullptr;
  return json.dump(2) + "\n";
}

}  // namespace

KeyValueFold export_huggingface(const SafetensorsFile& parameters, const HuggingFaceModel& model,
                                const std::filesystem::path& directory) {
  validate(model.shape);
  if (model.method != "none" && model.method != "subspace")
    throw std::invalid_argument(
        fmt::format("a model trained with method \"{}\" is no plain LLaMA: its boundaries change "
                    "what passes through them, and "
                    "LlamaForCausalLM has no boundaries; what can be exported: none, subspace",
                    model.method));
  // A manifest may say anything; every layer has parameters of its own.
  if (static_cast<size_t>(model.shape.layers) > parameters.tensors().size())
    throw std::invalid_argument(fmt::format("a model of {} layers with {} parameters in all",
                                            model.shape.layers, parameters.tensors().size()));
  Exporter exporter(parameters, model);
  exporter.write(directory / "model.safetensors");
  write_file_atomically(directory / "config.json", config_json(model));
  return exporter.folded();
}

}  // namespace strait
