// Folding stacked projections onto stored bases (unplug.h).
#include "engine/context/unplug.h"

#include <utility>

#include "engine/context/mixture_of_subspaces.h"

namespace strait {

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
    std::vector<double> qkv = values_of(state->master, state->dtype);
    fold_key_values(qkv, options, shape, values_of(k->master, k->dtype),
                    values_of(v->master, v->dtype));
    state->master = bytes_of(qkv, state->dtype);
    return state;
  };
}

}  // namespace strait
