// Mixtures of subspaces (Ramasinghe et al., NeurIPS 2025, arXiv 2606.16384; specs/mixture_of_subspaces.md): keys and values travel before RoPE
// as coordinates in a subspace of their own that turns with one angle a piece, and everybody, the owner too, computes with the
// reconstruction.
//
//   payload   [C_K (G,B,tokens,r_K) | C_V (G,B,tokens,r_V)] of the wire's type, [theta_K | theta_V] (2,G,B) S
//   gradient  the same of [dC_K | dC_V], and (2,G,B) S; sums in S
//
// Bytes of a piece: B tokens G (r_K + r_V) e + 2 B G size(S), and the same with e_g. With theta_source prev_piece also one message of 2 B G
// size(S) from the owner of each piece to that of the next, where they differ, and one back. No tensor of width w travels. The gradient is exact.
// Options, equations, what is not causal: docs/mixture_of_subspaces.md.
#pragma once

#include <memory>
#include <vector>

#include "engine/context/key_value_codec.h"
#include "engine/context/mixture_options.h"

namespace strait {

struct MixturePlace {
  const ModelShape& shape;
  TokenLayout layout = TokenLayout::zigzag;
  int shards = 1;
  int layer = 0;   // global
  int frames = 1;  // microbatches in flight at most
  ParameterList& parameters;
  const Buffer* rope = nullptr;  // declare_rope_table()
};

// Declares, with z k or v and a prefix "model.layers.LAYER.self_attn.mixture.z.": parameters "theta_proj.weight" (G w) and
// "theta_proj.bias" (G) where theta_source has them, zero, without weight decay; the state "frames" (G, J, w r_z), [Ubar, A Ubar, …], zero until
// begin(). Throws as validate() does. For a layer that compresses() only.
std::unique_ptr<KeyValueCodec> make_mixture_of_subspaces(const MixtureOptions& options,
                                                         const MixturePlace& place);

// To unplug the method without a jump at theta = 0: W <- Ubar Ubar^T W of the key and value rows of `qkv` ((H + 2 Hkv) Dh, C), row-major, in
// place. frames_k, frames_v: the states of that name.
void fold_key_values(std::vector<double>& qkv, const MixtureOptions& options,
                     const ModelShape& shape, const std::vector<double>& frames_k,
                     const std::vector<double>& frames_v);

}  // namespace strait
