// The codec of an orthonormal basis U (d,k), with or without a frozen token table tau (V,d) as anchors (specs/subspace_models.md,
// sections 2, 3, 8.1): exact for a model whose activations minus tau lie in the span of U (`subspace`), an orthogonal projection for
// any other (`frozen`).
//
//   forward    send c = (x - tau[ids]) U and, with anchors, the ids;   receiver x = c U^T + tau[ids]
//   backward   send gamma = g U;                                       sender  g^ = gamma U^T
//   bytes      forward N (k w + i), backward N k w                     i = 2 (V <= 65536) or 4; 0 without anchors
//
// The gradient is exact for what the codec computes, projection included; rounding to the wire is taken for the identity. The basis is
// frozen, or moves between two steps at both ends alike (BasisMotion); every message says with which version of it it was encoded.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "engine/codec/method.h"

namespace strait {

// A basis (d,k) in S, the same bits on every rank: the Q factor of a Gaussian matrix drawn from `seed` and `name`. A state where it
// `moves`, else a constant.
Buffer* declare_basis(ParameterList& parameters, const ModelShape& shape, int rank, uint64_t seed,
                      const std::string& name, bool moves);
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

// `x` in type `dtype`: x itself where it has it, else a rounded copy in scratch.
Tensor in_dtype(Context& ctx, const Tensor& x, DType dtype);
// max |a^T a - I| of a (d,k) S, on the host; 0 on the meta backend. For diagnostics.
double orthonormality_error(Context& ctx, const Tensor& a);

// c (N,k) of type `out` = x (N,d) U, computed in S, in scratch.
Tensor coordinates(Context& ctx, const Tensor& x, const Tensor& u, DType out);
// y (N,d) = c (N,k) U^T, computed in S, rounded once to y's type.
void expand(Context& ctx, const Tensor& y, const Tensor& c, const Tensor& u);

// How the basis of one end of a boundary moves.
class BasisMotion {
 public:
  virtual ~BasisMotion() = default;
  // Of the basis: how often it has moved.
  virtual uint64_t version(Backend& ops) const = 0;
  // Receiver, training: a gradient dx (N,d) S and its coordinates gamma (N,k) S.
  virtual void observe(Context& ctx, const Tensor& dx, const Tensor& gamma) = 0;
  // As those of Codec.
  virtual void begin_synchronise(Context& ctx) = 0;
  virtual void end_synchronise(Context& ctx, ControlLink& link, const StepEnd& end) = 0;
  virtual Diagnosis diagnose_grad(Context& ctx) = 0;
  virtual uint64_t expected_sync_bytes() const = 0;
};

// `identity`: what both ends must agree on beside the sizes and the bits of basis and anchors. `anchors`: null for none. `motion`: null
// for a basis that never moves. `constrains_model`: see CodecTraits.
std::unique_ptr<Codec> make_projection_codec(const MethodContext& c, std::string identity,
                                             DType wire, Buffer* basis, Buffer* anchors,
                                             std::unique_ptr<BasisMotion> motion,
                                             bool constrains_model);

}  // namespace strait
