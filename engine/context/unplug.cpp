// Folding stacked projections onto stored bases (unplug.h).
#include "engine/context/unplug.h"

#include <cstring>
#include <utility>

#include "engine/context/mixture_of_subspaces.h"
#include "kernels/check.h"

namespace strait {
namespace {

std::vector<double> to_double(const ParameterState& state, const std::vector<std::byte>& bytes) {
  std::vector<double> values(static_cast<size_t>(state.shape.elements()));
  for (size_t i = 0; i < values.size(); ++i) {
    if (state.dtype == DType::f64) {
      std::memcpy(&values[i], bytes.data() + i * sizeof(double), sizeof(double));
      continue;
    }
    float single = 0;
    std::memcpy(&single, bytes.data() + i * sizeof(float), sizeof(float));
    values[i] = single;
  }
  return values;
}

void from_double(const std::vector<double>& values, const ParameterState& state,
                 std::vector<std::byte>& bytes) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (state.dtype == DType::f64) {
      std::memcpy(bytes.data() + i * sizeof(double), &values[i], sizeof(double));
      continue;
    }
    const auto single = static_cast<float>(values[i]);
    std::memcpy(bytes.data() + i * sizeof(float), &single, sizeof(float));
  }
}

}  // namespace

ParameterSource unplugged(ParameterSource plain, ParameterSource stored, const ModelShape& shape) {
  return [=](const std::string& name) -> std::optional<ParameterState> {
    std::optional<ParameterState> state = plain(name);
    const size_t attention = name.find(".self_attn.qkv_proj.weight");
    if (!state || attention == std::string::npos) return state;
    const auto frames = [&](const char* z) {
      return stored(name.substr(0, attention) + kMixtureStates + z + ".frames");
    };
    const auto k = frames("k"), v = frames("v");
    if (!k || !v) return state;
    // frames (G, J, w r)
    MixtureOptions options;
    options.scope = k->shape[0] == 1 ? "layer" : "per_head";
    const int64_t width = int64_t{shape.kv_heads} * shape.head_width / k->shape[0];
    options.rank_k = static_cast<int>(k->shape[2] / width);
    options.rank_v = static_cast<int>(v->shape[2] / width);
    std::vector<double> qkv = to_double(*state, state->master);
    fold_key_values(qkv, options, shape, to_double(*k, k->master), to_double(*v, v->master));
    from_double(qkv, *state, state->master);
    return state;
  };
}

}  // namespace strait
