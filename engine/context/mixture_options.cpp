#include "engine/context/mixture_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

namespace strait {
namespace {

[[noreturn]] void refuse(const std::string& option, const std::string& value,
                         const std::string& allowed) {
  throw std::invalid_argument(
      fmt::format("mixture of subspaces, {}: {} is not possible; {}", option, value, allowed));
}

void one_of(const char* option, const std::string& value,
            std::initializer_list<const char*> allowed) {
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return;
  refuse(option, value, fmt::format("allowed: {}", fmt::join(allowed, ", ")));
}

void wire_type(const char* option, std::optional<DType> given, DType own) {
  if (given.value_or(own) != own && *given != DType::bf16)
    refuse(option, name_of(*given), fmt::format("allowed: {}, bf16", name_of(own)));
}

void validate_names(const MixtureOptions& o) {
  one_of("scope", o.scope, {"layer", "per_head"});
  one_of("rotation", o.rotation, {"taylor2", "exp", "cayley", "plane", "none", "random"});
  one_of("generator_norm", o.generator_norm, {"frobenius", "spectral"});
  one_of("clip", o.clip, {"hard", "tanh"});
  one_of("theta_source", o.theta_source,
         {"prev_piece", "chunk_mean", "constant", "zero", "random"});
  one_of("basis_source", o.basis_source, {"weights", "activations", "random"});
  one_of("basis_opt", o.basis_opt, {"frozen", "stiefel"});
  one_of("local_block", o.local_block, {"projected", "exact"});
  one_of("projection", o.projection, {"direct", "absorbed"});
  one_of("uncompressed_layers", o.uncompressed_layers, {"last", "none", "list"});
}

void validate_ranks(const MixtureOptions& o, const ModelShape& shape) {
  const MixtureSizes sizes = mixture_sizes(o, shape);
  for (const auto& [name, rho] : {std::pair("rho_k", o.rho_k), std::pair("rho_v", o.rho_v)})
    if (!(rho >= 0 && rho < 1)) refuse(name, fmt::format("{}", rho), "allowed: 0 to below 1");
  if (o.rank_multiple < 1 || o.rank_multiple > sizes.width)
    refuse("rank_multiple", std::to_string(o.rank_multiple),
           fmt::format("allowed: 1 to {}, the width", sizes.width));
  for (const auto& [name, rank] : {std::pair("rank_k", o.rank_k), std::pair("rank_v", o.rank_v)})
    if (rank && (*rank < 1 || *rank > sizes.width))
      refuse(name, std::to_string(*rank), fmt::format("allowed: 1 to {}, the width", sizes.width));
}

void validate_angles(const MixtureOptions& o, TokenLayout layout, int shards) {
  if (o.k != 1)
    refuse("k", std::to_string(o.k), "one angle a piece, as published, is what is offered");
  if (!(o.theta_clip > 0 && o.theta_clip <= 3.2))
    refuse("theta_clip", fmt::format("{}", o.theta_clip), "allowed: above 0, at most 3.2 radians");
  if (o.rotation == "cayley" && o.theta_clip > 1)
    refuse("theta_clip", fmt::format("{}", o.theta_clip),
           "rotation cayley is summed as a power series: at most 1");
  if (o.theta_source == "prev_piece" && layout == TokenLayout::striped && shards > 1 &&
      o.rotation != "none" && o.rotation != "random")
    refuse("theta_source", "prev_piece",
           "in layout striped no piece lies before another: constant or zero are causal there, or "
           "layout zigzag or contiguous");
}

}  // namespace

void validate(const MixtureOptions& o, const ModelShape& shape, TokenLayout layout, int shards,
              DType t) {
  validate_names(o);
  validate_ranks(o, shape);
  validate_angles(o, layout, shards);
  if (o.basis_opt == "stiefel" && o.rotation != "none")
    refuse("basis_opt", "stiefel",
           fmt::format("there the basis itself moves: rotation is none, not {}", o.rotation));
  if (!(o.basis_lr_mult > 0))
    refuse("basis_lr_mult", fmt::format("{}", o.basis_lr_mult), "it must be positive");
  if (o.projection == "absorbed" && o.local_block == "exact")
    refuse("projection", "absorbed",
           "with local_block exact a rank needs its own keys and values: projection direct");
  if (o.calibration_batches < 1)
    refuse("calibration_batches", std::to_string(o.calibration_batches), "it must be positive");
  if (o.uncompressed_layers != "list" && !o.uncompressed_list.empty())
    refuse("uncompressed_list", fmt::format("[{}]", fmt::join(o.uncompressed_list, ", ")),
           "it belongs to uncompressed_layers list");
  for (int layer : o.uncompressed_list)
    if (layer < 0 || layer >= shape.layers)
      refuse("uncompressed_list", std::to_string(layer),
             fmt::format("layers are 0 to {}", shape.layers - 1));
  wire_type("wire_dtype", o.wire, t);
  wire_type("grad_wire_dtype", o.gradient_wire, statistics_of(t));
}

bool compresses(const MixtureOptions& o, int layer, int layers) {
  if (o.uncompressed_layers == "last") return layer != layers - 1;
  return std::find(o.uncompressed_list.begin(), o.uncompressed_list.end(), layer) ==
         o.uncompressed_list.end();
}

MixtureSizes mixture_sizes(const MixtureOptions& o, const ModelShape& shape) {
  MixtureSizes sizes;
  const bool per_head = o.scope == "per_head";
  sizes.groups = per_head ? shape.kv_heads : 1;
  sizes.width = int64_t{shape.head_width} * (per_head ? 1 : shape.kv_heads);
  const auto rank = [&](std::optional<int> given, double rho) {
    if (given) return int64_t{*given};
    const double r = std::round((1 - rho) * static_cast<double>(sizes.width));
    const auto m = static_cast<double>(std::max(o.rank_multiple, 1));
    const auto multiple = static_cast<int64_t>(std::max(1.0, std::round(r / m)) * m);
    return std::clamp<int64_t>(multiple, 1, sizes.width);
  };
  sizes.rank_k = rank(o.rank_k, o.rho_k);
  sizes.rank_v = rank(o.rank_v, o.rho_v);
  return sizes;
}

}  // namespace strait
