// Takes stacked matrices apart, folds subspace models, and writes the tensors in the order of the layers (export_huggingface.h). Of
// the model no more than a layer is in memory at a time.
#include "engine/checkpoint/export_huggingface.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>
#include <set>
#include <stdexcept>
#include <utility>
#include <vector>

#include "engine/codec/subspace.h"
#include "engine/data/files.h"

namespace strait {
namespace {

using Values = std::vector<float>;

std::string layer_name(int layer, const char* name) {
  return fmt::format("model.layers.{}.{}", layer, name);
}

// Reads the checkpoint's parameters one by one, checked, and knows at the end which nobody asked for.
class Source {
 public:
  explicit Source(const SafetensorsFile& file) : file_(file) {}

  bool has(const std::string& name) const { return file_.tensors().contains(name); }

  Values take(const std::string& name, const std::vector<int64_t>& shape) {
    if (!has(name))
      throw std::invalid_argument(fmt::format("the checkpoint has no parameter {}", name));
    const SafetensorsEntry& found = file_.entry(name);
    if (found.dtype != safetensors_dtype(DType::f32) || found.shape != shape)
      throw std::invalid_argument(fmt::format(
          "parameter {} is {} ({}); the model's shape wants {} ({})", name, found.dtype,
          fmt::join(found.shape, ", "), safetensors_dtype(DType::f32), fmt::join(shape, ", ")));
    taken_.insert(name);
    Values values(found.bytes / sizeof(float));
    file_.read(name, values.data(), DType::f32, shape);
    return values;
  }

  // k of coordinates (rows, k) in a subspace of a `width`-dimensional space.
  int64_t rank_of(const std::string& name, int64_t width) const {
    const std::vector<int64_t>& shape = file_.entry(name).shape;
    if (shape.size() != 2 || shape[1] < 1 || shape[1] > width)
      throw std::invalid_argument(
          fmt::format("parameter {} is ({}): no coordinates in {} dimensions", name,
                      fmt::join(shape, ", "), width));
    return shape[1];
  }

  void check_all_taken() const {
    for (const auto& [name, entry] : file_.tensors())
      if (!taken_.contains(name))
        throw std::invalid_argument(fmt::format(
            "parameter {} has no place in a plain LLaMA: the model cannot be exported", name));
  }

 private:
  const SafetensorsFile& file_;
  std::set<std::string> taken_;
};

// The frozen tensors of a subspace run, as both ends of every boundary make them from the seed.
class FrozenBasis {
 public:
  FrozenBasis(const HuggingFaceModel& model, int64_t rank)
      : width_(model.shape.width), rank_(rank) {
    ParameterList list(model.dtype);
    Constant* u = declare_basis(list, model.shape, static_cast<int>(rank), model.basis_seed);
    fixed_ = declare_token_table(list, model.shape, model.basis_seed)->init;
    u_.resize(static_cast<size_t>(width_ * rank_));
    u->init(u_);
    for (double& x : u_) x = static_cast<double>(static_cast<float>(x));
    bf16_ = model.dtype == DType::bf16;
  }

  int64_t rank() const { return rank_; }

  // U Z^T (C, in) of Z (in, k).
  Values projection(const Values& z, int64_t in) const {
    Values w(static_cast<size_t>(width_ * in));
    for (int64_t c = 0; c < width_; ++c)
      for (int64_t i = 0; i < in; ++i)
        w[static_cast<size_t>(c * in + i)] = static_cast<float>(dot(c, z.data() + i * rank_));
    return w;
  }

  // T_fixed + E U^T (V, C) of E (V, k).
  Values embedding(const Values& e, int64_t vocabulary) const {
    std::vector<double> table(static_cast<size_t>(vocabulary * width_));
    fixed_(table);
    Values w(table.size());
    for (int64_t v = 0; v < vocabulary; ++v)
      for (int64_t c = 0; c < width_; ++c) {
        const auto at = static_cast<size_t>(v * width_ + c);
        const auto f = static_cast<float>(table[at]);
        const float rounded = bf16_ ? static_cast<float>(bfloat16(f)) : f;
        w[at] = static_cast<float>(static_cast<double>(rounded) + dot(c, e.data() + v * rank_));
      }
    return w;
  }

 private:
  double dot(int64_t c, const float* coordinates) const {
    double sum = 0;
    for (int64_t j = 0; j < rank_; ++j)
      sum += u_[static_cast<size_t>(c * rank_ + j)] * static_cast<double>(coordinates[j]);
    return sum;
  }

  int64_t width_, rank_;
  std::vector<double> u_;
  Initialiser fixed_;
  bool bf16_ = false;
};

// Writes tensors in the order of tensor_names().
class Exporter {
 public:
  Exporter(const SafetensorsFile& parameters, const HuggingFaceModel& model)
      : model_(model), source_(parameters) {
    const std::string embedding = "model.embed_tokens.coordinates";
    if (model.method == "subspace" && source_.has(embedding))
      basis_.emplace(model, source_.rank_of(embedding, model.shape.width));
  }

  void write(const std::filesystem::path& path) {
    SafetensorsWriter writer(path.string(), declarations(), {{"format", "pt"}});
    const auto whole = [&](const std::string& name, const std::vector<int64_t>& shape) {
      writer.write(name, source_.take(name, shape).data());
    };
    const int64_t c = model_.shape.width, v = model_.shape.vocabulary;
    writer.write("model.embed_tokens.weight", embedding().data());
    for (int layer = 0; layer < model_.shape.layers; ++layer) write_layer(writer, layer);
    whole("model.norm.weight", {c});
    whole("lm_head.weight", {v, c});
    source_.check_all_taken();
    writer.finish();
  }

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
    const auto norm = [&, c = c](const char* name) {
      writer.write(layer_name(layer, name), source_.take(layer_name(layer, name), {c}).data());
    };
    norm("input_layernorm.weight");
    const Values qkv =
        source_.take(layer_name(layer, "self_attn.qkv_proj.weight"), {q + 2 * kv, c});
    rows("self_attn.q_proj.weight", qkv, 0);
    rows("self_attn.k_proj.weight", qkv, q);
    rows("self_attn.v_proj.weight", qkv, q + kv);
    writer.write(layer_name(layer, "self_attn.o_proj.weight"),
                 output(layer, "self_attn.o_proj", q).data());
    norm("post_attention_layernorm.weight");
    const Values gate_up = source_.take(layer_name(layer, "mlp.gate_up_proj.weight"), {2 * f, c});
    rows("mlp.gate_proj.weight", gate_up, 0);
    rows("mlp.up_proj.weight", gate_up, f);
    writer.write(layer_name(layer, "mlp.down_proj.weight"),
                 output(layer, "mlp.down_proj", f).data());
  }

  Values embedding() {
    const int64_t v = model_.shape.vocabulary;
    if (!basis_) return source_.take("model.embed_tokens.weight", {v, model_.shape.width});
    const std::string name = "model.embed_tokens.coordinates";
    return basis_->embedding(source_.take(name, {v, basis_->rank()}), v);
  }

  // A matrix (C, in) that writes into the residual stream; the last stage's are plain in a subspace model, too.
  Values output(int layer, const char* name, int64_t in) {
    const std::string full = layer_name(layer, name), coordinates = full + ".coordinates";
    if (!basis_ || !source_.has(coordinates))
      return source_.take(full + ".weight", {model_.shape.width, in});
    return basis_->projection(source_.take(coordinates, {in, basis_->rank()}), in);
  }

  const HuggingFaceModel& model_;
  Source source_;
  std::optional<FrozenBasis> basis_;
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

void export_huggingface(const SafetensorsFile& parameters, const HuggingFaceModel& model,
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
  Exporter(parameters, model).write(directory / "model.safetensors");
  write_file_atomically(directory / "config.json", config_json(model));
}

}  // namespace strait
