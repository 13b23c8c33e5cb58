// One parameter with its moments, or a codec's state, in host memory, under its global name: what leaves a rank and comes back, on
// any grid.
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "kernels/tensor.h"

namespace strait {

// `master`, `m`, `v` hold shape.elements() values of `dtype` (f32; f64 on the reference backend), row-major; `v` only one a row where
// the parameter has row_moments. `m` and `v` are empty where there are no moments or they are not known.
struct ParameterState {
  std::string name;
  Shape shape;
  DType dtype = DType::f32;
  std::vector<std::byte> master, m, v;
};

// The numbers of one of these byte arrays, f32 or f64, and back; to f32 they are rounded to nearest.
std::vector<double> values_of(const std::vector<std::byte>& bytes, DType dtype);
std::vector<std::byte> bytes_of(const std::vector<double>& values, DType dtype);

// The parameter of a name, or nullopt where there is none.
using ParameterSource = std::function<std::optional<ParameterState>(const std::string& name)>;

}  // namespace strait
