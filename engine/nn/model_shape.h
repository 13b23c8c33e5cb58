// The sizes of a LLaMA decoder, the named presets (docs/models.md), and how its layers are split over pipeline stages.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace strait {

// Pre-norm RMSNorm, RoPE (halves), grouped-query attention, SwiGLU, no biases, untied head.
struct ModelShape {
  int layers = 0;
  int width = 0;       // C
  int heads = 0;       // H
  int kv_heads = 0;    // Hkv, divides H
  int head_width = 0;  // Dh, even; H * Dh need not be C
  int ffn_width = 0;   // F
  int vocabulary = 0;  // V
  int context = 0;     // T, tokens per sequence
  double rope_theta = 10000;
  double norm_eps = 1e-5;
  bool operator==(const ModelShape&) const = default;
};

// Throws std::invalid_argument (text names the known presets) for an unknown name.
ModelShape model_preset(std::string_view name);
std::vector<std::string> model_preset_names();

// Throws std::invalid_argument that names the offending size.
void validate(const ModelShape& shape);

// Trainable parameters of the uncompressed model: 2VC + L(2C + (H+2Hkv)Dh C + H Dh C + 3FC) + C.
int64_t parameter_count(const ModelShape& shape);

// Model FLOPs per trained token, forward and backward: 6 (P - VC) + 6 L T H Dh (causal attention halved).
double flops_per_token(const ModelShape& shape);

// Layers [first, first + count) of one stage.
struct LayerRange {
  int first = 0;
  int count = 0;
};

// `explicit_counts` empty: as even as possible; left-over layers go to the stages before the last one (it holds the head).
// Throws std::invalid_argument if a stage would be without a layer or the counts do not add up.
std::vector<LayerRange> split_layers(int layers, int stages,
                                     const std::vector<int>& explicit_counts);

}  // namespace strait
