// A subspace model's parameters as those of a plain LLaMA and back (specs/subspace_models.md, sections 0.2, 1.3, 2.2). Coordinates
// "X.coordinates" stand for a plain "X.weight":
//
//   embed_tokens   W (V,C)  = T_fixed + E U^T       E (V,k)  = (W - T_fixed) U
//   projections    W (C,in) = U Z^T                 Z (in,k) = W^T U
//
// To the left exact but for rounding; to the right the nearest in the Frobenius norm, because U is orthonormal. So are the first
// moments, which are sums of gradients (dL/dZ = (dL/dW)^T U). Of the second moments, sums of squares element by element, only an
// estimate can be had: to the right as if the columns of a gradient were uncorrelated, v_Z = v_W^T (U o U); to the left every
// column of W gets the mean of the row of v_Z, as if the gradient's energy lay evenly over the directions.
#pragma once

#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "engine/nn/model_shape.h"
#include "engine/nn/parameter_state.h"

namespace strait {

class SubspaceFold {
 public:
  // `dtype`: the run's compute type, to which T_fixed is rounded.
  SubspaceFold(const ModelShape& shape, int rank, uint64_t basis_seed, DType dtype)
      : shape_(shape), rank_(rank), seed_(basis_seed), dtype_(dtype) {}

  // The plain parameter `name` from a subspace model's, and the other way. nullopt where `name` is none that changes, or the
  // source has not what it is made of. Throws std::invalid_argument where that has another shape. Thread-safe.
  std::optional<ParameterState> to_plain(const std::string& name, const ParameterSource& own) const;
  std::optional<ParameterState> from_plain(const std::string& name,
                                           const ParameterSource& plain) const;

 private:
  const std::vector<double>& basis() const;  // U (C,k)
  std::vector<double> token_table() const;   // T_fixed (V,C)

  ModelShape shape_;
  int64_t rank_;
  uint64_t seed_;
  DType dtype_;
  mutable std::once_flag made_;
  mutable std::vector<double> u_;
};

}  // namespace strait
