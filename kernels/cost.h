// What the public functions of a backend count for Backend::book().
#pragma once

#include <cstdint>
#include <initializer_list>

#include "kernels/tensor.h"

namespace strait {

inline uint64_t count(int64_t n) { return static_cast<uint64_t>(n); }

inline uint64_t bytes_of(std::initializer_list<Tensor> tensors) {
  uint64_t bytes = 0;
  for (const Tensor& t : tensors) bytes += t.bytes();
  return bytes;
}

// An output that is read before it is written counts twice.
inline uint64_t written(const Tensor& t, bool accumulate) {
  return t.bytes() * (accumulate ? 2u : 1u);
}

}  // namespace strait
