// What the scenario says of mixtures of subspaces (specs/mixture_of_subspaces.md 12), resolved. Plain data; the first value in each list is
// the default. What each means: docs/mixture_of_subspaces.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/context/layout.h"
#include "engine/nn/model_shape.h"
#include "kernels/backend.h"

namespace strait {

struct MixtureOptions {
  // One subspace for all key heads of a layer together, or one each (the paper, literally): "layer", "per_head".
  std::string scope = "layer";
  // Share of the dimensions that is given up: r = max(1, round((1 - rho) w)), rounded to a multiple of rank_multiple; or r itself. w is
  // Hkv Dh, or Dh per head.
  double rho_k = 0.98, rho_v = 0.95;
  std::optional<int> rank_k, rank_v;
  int rank_multiple = 1;
  // "taylor2", "exp", "cayley", "plane", "none", "random" (taylor2 with theta_source random).
  std::string rotation = "taylor2";
  std::string generator_norm = "frobenius";  // "frobenius", "spectral"; not of "plane"
  int k = 1;                                 // angles a piece; 1 alone is offered
  double theta_clip = 0.5;                   // radians
  std::string clip = "hard";                 // "hard", "tanh"
  // "prev_piece", "chunk_mean" (the paper; not causal within a piece), "constant", "zero", "random".
  std::string theta_source = "prev_piece";
  std::string basis_source = "weights";  // "weights", "activations", "random"
  int calibration_batches = 1;       // activations: microbatches of every copy that are looked at
  std::string basis_opt = "frozen";  // "frozen", "stiefel" (with rotation none)
  double basis_lr_mult = 1;          // stiefel: its learning rate over that of the hidden matrices
  bool project_at_start = false;     // W <- Ubar Ubar^T W when training with the method begins
  std::string local_block = "projected";  // "projected", "exact" (own keys and values as they are)
  // Coordinates as (X W) U, or as X (W U), which never forms keys and values of full width: "direct", "absorbed". The same function but
  // for rounding; not with local_block exact.
  std::string projection = "direct";
  std::string uncompressed_layers = "last";  // "last", "none", "list"
  std::vector<int> uncompressed_list;        // global indices of layers
  // Of the coordinates on the wire: T, or bf16; of their gradients: S, or bf16. Angles are S always.
  std::optional<DType> wire, gradient_wire;
  uint64_t seed = 1337;  // of the skew generators, and of random bases and angles
};

// Throws std::invalid_argument: which option, its value, and what is allowed. `t`: the compute type.
void validate(const MixtureOptions& options, const ModelShape& shape, TokenLayout layout,
              int shards, DType t);
// Whether keys and values of layer `layer` (global, of `layers`) are compressed; else they travel as method none sends them.
bool compresses(const MixtureOptions& options, int layer, int layers);

// Sizes that follow: groups of heads with a subspace of their own, the width w of each, and ranks.
struct MixtureSizes {
  int64_t groups = 1, width = 0, rank_k = 0, rank_v = 0;
};
MixtureSizes mixture_sizes(const MixtureOptions& options, const ModelShape& shape);

}  // namespace strait
