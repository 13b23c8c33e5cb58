// The host's side of kernels/normal.h: a normal value by its index, with the C library's correctly
// rounded square root.
#include "kernels/rng.h"

#include <cmath>

#include "kernels/normal.h"

namespace strait {

double normal_at(const Philox& rng, uint64_t stream, uint64_t index) {
  return normal_of(rng.word(stream, index), [](double x) { return std::sqrt(x); });
}

}  // namespace strait
