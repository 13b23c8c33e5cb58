// The codec of a frozen orthonormal basis U (d,k), with or without a frozen token table tau (V,d) as anchors (specs/subspace_models.md,
// sections 2, 3, 8.1): exact for a model whose activations minus tau lie in the span of U (`subspace`), an orthogonal projection for
// any other (`frozen`).
//
//   forward    send c = (x - tau[ids]) U and, with anchors, the ids;   receiver x = c U^T + tau[ids]
//   backward   send gamma = g U;                                       sender  g^ = gamma U^T
//   bytes      forward N (k w + i), backward N k w                     i = 2 (V <= 65536) or 4; 0 without anchors
//
// The gradient is exact for what the codec computes, projection included; rounding to the wire is taken for the identity.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "engine/codec/method.h"

namespace strait {

// A frozen basis (d,k) in S, the same bits on every rank: the Q factor of a Gaussian matrix drawn from `seed` and `name`.
Buffer* declare_basis(ParameterList& parameters, const ModelShape& shape, int rank, uint64_t seed,
                      const std::string& name);
// A frozen token table (V,d) in T of N(0,1).
Buffer* declare_token_table(ParameterList& parameters, const ModelShape& shape, uint64_t seed,
                            const std::string& name);

// Ids on the wire: u16, or i32 for a vocabulary above 65536.
DType id_dtype(const ModelShape& shape);
// `x` in type `dtype`: x itself where it has it, else a rounded copy in scratch.
Tensor in_dtype(Context& ctx, const Tensor& x, DType dtype);
// The Q factor of a Gaussian matrix (d,k) drawn from `seed` and `name`.
Initialiser random_orthonormal(uint64_t seed, std::string name, int64_t d, int64_t k);

// The rank in [1, width] whose ratio `achieved`, which falls with the rank, is closest to `ratio`. Throws std::invalid_argument if none
// comes within a factor of 2 of it.
int rank_for_ratio(const char* method, double ratio, int width,
                   const std::function<double(int rank)>& achieved);
// The rank whose combined wire ratio 2 d w0 / (2 k w + i) is closest to `ratio`; w0, w: bytes of the run's precision and of the wire.
// Throws std::invalid_argument if no rank in [1, d] comes within a factor of 2 of it.
int projection_rank_for_ratio(const char* method, double ratio, const ModelShape& shape,
                              DType compute, DType wire, bool ids);
// The rank that the options state or that their ratio asks for. Throws std::invalid_argument unless exactly one is given and fits.
int projection_rank(const char* method, const MethodOptions& options, const ModelShape& shape,
                    DType compute, bool ids);

// c (N,k) of type `out` = x (N,d) U, computed in S, in scratch.
Tensor coordinates(Context& ctx, const Tensor& x, const Tensor& u, DType out);
// y (N,d) = c (N,k) U^T, computed in S, rounded once to y's type.
void expand(Context& ctx, const Tensor& y, const Tensor& c, const Tensor& u);

// `identity`: what both ends must agree on beside the sizes and the bits of the constants. `anchors`: null for none.
// `constrains_model`: see CodecTraits.
std::unique_ptr<Codec> make_projection_codec(const MethodContext& c, std::string identity,
                                             DType wire, Buffer* basis, Buffer* anchors,
                                             bool constrains_model);

}  // namespace strait
