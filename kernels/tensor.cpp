// The text form of a shape, as it appears in every contract error.
#include "kernels/tensor.h"

#include <fmt/format.h>

namespace strait {

std::string to_string(const Shape& shape) {
  std::string text = "(";
  for (int i = 0; i < shape.rank; ++i) text += fmt::format("{}{}", i == 0 ? "" : ", ", shape[i]);
  return text + ")";
}

}  // namespace strait
