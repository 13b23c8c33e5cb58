// Folding stacked projections onto stored bases (unplug.h).
#include "engine/context/unplug.h"

#include <fmt/format.h>

#include <stdexcept>
#include <utility>

#include "engine/context/mixture_of_subspaces.h"

namespace strait {

namespace {

// r of a basis (G, J, w r) of the keys or values of a model with that shape.
int rank_of(const ParameterState& frames, const ModelShape& shape) {
  const int64_t groups = frames.shape.rank == 3 ? frames.shape[0] : 0;
  if (groups == 1 || groups == shape.kv_heads) {
    const int64_t width = int64_t{shape.kv_heads} * shape.head_width / groups,
                  rank = frames.shape[2] / width;
    if (frames.shape[1] >= 1 && frames.shape[2] % width == 0 && rank >= 1 && rank <= width)
      return static_cast<int>(rank);
  }
  throw std::invalid_argument(fmt::format("state {} is {}: no basis of {} key heads of {}",
                                          frames.name, to_string(frames.shape), shape.kv_heads,
                                          shape.head_width));
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
    MixtureOptions options;
    options.rank_k = rank_of(*k, shape);
    options.rank_v = rank_of(*v, shape);
    if (k->shape[0] != v->shape[0])
      throw std::invalid_argument(
          fmt::format("states {} and {} are of different scopes", k->name, v->name));
    options.scope = k->shape[0] == 1 ? "layer" : "per_head";
    std::vector<double> qkv = values_of(state->master, state->dtype);
    fold_key_values(qkv, options, shape, values_of(k->master, k->dtype),
                    values_of(v->master, v->dtype));
    state->master = bytes_of(qkv, state->dtype);
    return state;
  };
}

}  // namespace strait
