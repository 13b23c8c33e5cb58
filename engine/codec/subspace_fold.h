// A subspace model's parameters as those of a plain LLaMA and back (specs/subspace_models.md, sections 0.2, 1.3, 2.2). Coordinates
// "X.coordinates" (variant C) or rows in the subspace "X.in_subspace" (A, B) stand for a plain "X.weight":
//
//                  to a plain model                                   from one
//   embed_tokens   W (V,C)  = T_fixed + E U^T = T_fixed + T_S         E (V,k)  = (W - T_fixed) U,   T_S (V,C) = (W - T_fixed) P
//   projections    W (C,in) = U Z^T           = M^T                   Z (in,k) = W^T U,             M (in,C)  = W^T P
//
// with P = U U^T. U is the one that the source holds (its state "subspace.U"), else that of the seed. To the plain model exact but for
// rounding; from it the nearest in the Frobenius norm, because U is orthonormal. So are the first moments, which are sums of gradients
// (dL/dZ = (dL/dW)^T U); B's are of gradients at full width and stay as they are.
//
// Of the second moments, sums of squares, only an estimate can be had, but for B, whose are those of the plain model: from it as if the
// columns of a gradient were uncorrelated, v_Z = v_W^T (U o U), and for A's mean over a row the sum of that over k, divided by C; to it
// every column of W gets the mean of the row of v_Z, or A's, as if the gradient's energy lay evenly over the directions.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/codec/subspace.h"
#include "engine/nn/model_shape.h"
#include "engine/nn/parameter_state.h"

namespace strait {

class SubspaceFold {
 public:
  // `dtype`: the run's compute type, to which T_fixed is rounded.
  SubspaceFold(const ModelShape& shape, int rank, uint64_t basis_seed, DType dtype,
               SubspaceVariant variant)
      : shape_(shape), rank_(rank), seed_(basis_seed), dtype_(dtype), variant_(variant) {}

  // The plain parameter `name` from a subspace model's, and the other way. nullopt where `name` is none that changes, or the
  // source has not what it is made of. Throws std::invalid_argument where that has another shape. Thread-safe.
  std::optional<ParameterState> to_plain(const std::string& name, const ParameterSource& own) const;
  std::optional<ParameterState> from_plain(const std::string& name,
                                           const ParameterSource& plain) const;

 private:
  std::vector<double> basis(const ParameterSource& source) const;  // U (C,k)
  const std::vector<double>& seeded_basis() const;
  std::vector<double> token_table() const;  // T_fixed (V,C)
  std::vector<double> second_moments(const std::vector<double>& v, std::vector<double> u) const;

  ModelShape shape_;
  int64_t rank_;
  uint64_t seed_;
  DType dtype_;
  SubspaceVariant variant_;
  mutable std::once_flag made_;
  mutable std::vector<double> u_;
};

}  // namespace strait
