#include "engine/nn/model_shape.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <stdexcept>
#include <utility>

namespace strait {
namespace {

struct Preset {
  std::string_view name;
  ModelShape shape;
};

// layers, width, heads, kv_heads, head_width, ffn_width, vocabulary, context, rope_theta. Sources: docs/models.md.
constexpr Preset kPresets[] = {
    {"llama-1m", {4, 128, 4, 4, 32, 352, 2048, 128, 10000}},
    {"llama-7m", {6, 256, 8, 8, 32, 704, 4096, 256, 10000}},
    {"llama-20m", {8, 384, 6, 6, 64, 1024, 8192, 256, 10000}},
    {"llama-150m", {8, 1024, 16, 16, 64, 2048, 32000, 2048, 10000}},
    {"llama-500m", {16, 1536, 12, 12, 128, 3456, 32000, 2048, 10000}},
    {"llama-800m", {8, 2048, 8, 8, 256, 9216, 50304, 131072, 500000}},
    {"llama-1b", {16, 2048, 16, 16, 128, 6144, 32000, 2048, 10000}},
    {"llama-2b", {8, 4096, 32, 32, 128, 11008, 50304, 1024, 10000}},
    {"llama-3b", {32, 2048, 8, 8, 256, 11264, 50304, 131072, 500000}},
    {"llama-8b", {32, 4096, 32, 8, 128, 14336, 128256, 8192, 500000}},
};

}  // namespace

ModelShape model_preset(std::string_view name) {
  for (const Preset& p : kPresets) {
    if (p.name == name) return p.shape;
  }
  throw std::invalid_argument(fmt::format("unknown model preset \"{}\"; known: {}", name,
                                          fmt::join(model_preset_names(), ", ")));
}

std::vector<std::string> model_preset_names() {
  std::vector<std::string> names;
  for (const Preset& p : kPresets) names.emplace_back(p.name);
  return names;
}

void validate(const ModelShape& s) {
  const std::pair<const char*, int> sizes[] = {
      {"layers", s.layers},         {"width", s.width},           {"heads", s.heads},
      {"kv_heads", s.kv_heads},     {"head_width", s.head_width}, {"ffn_width", s.ffn_width},
      {"vocabulary", s.vocabulary}, {"context", s.context}};
  for (const auto& [name, value] : sizes) {
    if (value < 1)
      throw std::invalid_argument(
          fmt::format("model {} is {}; it must be at least 1", name, value));
  }
  if (s.heads % s.kv_heads != 0) {
    throw std::invalid_argument(
        fmt::format("model kv_heads is {}; it must divide heads ({})", s.kv_heads, s.heads));
  }
  if (s.head_width % 2 != 0) {
    throw std::invalid_argument(
        fmt::format("model head_width is {}; rotary embedding needs an even width", s.head_width));
  }
  if (!(s.norm_eps > 0) || !(s.rope_theta > 1))
    throw std::invalid_argument("model norm_eps must be > 0 and rope_theta > 1");
}

int64_t parameter_count(const ModelShape& s) {
  const int64_t c = s.width, v = s.vocabulary, f = s.ffn_width,
                hd = int64_t{s.heads} * s.head_width;
  const int64_t qkv = (int64_t{s.heads} + 2 * int64_t{s.kv_heads}) * s.head_width;
  return 2 * v * c + s.layers * (2 * c + qkv * c + hd * c + 3 * f * c) + c;
}

double flops_per_token(const ModelShape& s) {
  const double matrices = static_cast<double>(parameter_count(s) - int64_t{s.vocabulary} * s.width);
  return 6.0 * matrices + 6.0 * s.layers * s.context * s.heads * s.head_width;
}

std::vector<LayerRange> split_layers(int layers, int stages,
                                     const std::vector<int>& explicit_counts) {
  std::vector<int> counts = explicit_counts;
  if (counts.empty()) {
    if (stages > layers) {
      throw std::invalid_argument(fmt::format(
          "{} pipeline stages need at least one layer each; the model has {}", stages, layers));
    }
    // The remainder goes to the middle of the pipeline first: the ends also hold the embedding and the head.
    counts.assign(static_cast<size_t>(stages), layers / stages);
    for (int extra = layers % stages, s = stages - 2; extra > 0; --extra, --s) {
      counts[static_cast<size_t>(s < 0 ? s + stages : s)] += 1;
    }
  }
  if (static_cast<int>(counts.size()) != stages) {
    throw std::invalid_argument(fmt::format("layers_per_stage lists {} stages; the pipeline has {}",
                                            counts.size(), stages));
  }
  std::vector<LayerRange> ranges;
  int first = 0;
  for (int count : counts) {
    if (count < 1)
      throw std::invalid_argument(
          fmt::format("layers_per_stage holds {}; each stage needs at least 1 layer", count));
    ranges.push_back({first, count});
    first += count;
  }
  if (first != layers) {
    throw std::invalid_argument(
        fmt::format("layers_per_stage adds up to {}; the model has {} layers", first, layers));
  }
  return ranges;
}

}  // namespace strait
