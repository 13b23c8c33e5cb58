// Numbers from bytes and back (parameter_state.h).
#include "engine/nn/parameter_state.h"

#include <cstring>

namespace strait {

std::vector<double> values_of(const std::vector<std::byte>& bytes, DType dtype) {
  std::vector<double> values(bytes.size() / size_of(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::f64) {
      std::memcpy(&values[i], bytes.data() + i * sizeof(double), sizeof(double));
    } else {
      float f = 0;
      std::memcpy(&f, bytes.data() + i * sizeof(float), sizeof(float));
      values[i] = static_cast<double>(f);
    }
  }
  return values;
}

std::vector<std::byte> bytes_of(const std::vector<double>& values, DType dtype) {
  std::vector<std::byte> bytes(values.size() * size_of(dtype));
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::f64) {
      std::memcpy(bytes.data() + i * sizeof(double), &values[i], sizeof(double));
    } else {
      const auto f = static_cast<float>(values[i]);
      std::memcpy(bytes.data() + i * sizeof(float), &f, sizeof(float));
    }
  }
  return bytes;
}

}  // namespace strait
