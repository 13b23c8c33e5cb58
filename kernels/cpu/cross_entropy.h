// Softmax cross-entropy, one row of logits at a time: a pass for the maximum, one for the
// exponentials and their sum (kept in f32 in scratch, so that exp is taken once), one for the
// gradient. Reads the logits once from memory, writes them once. Row-local; a row is summed in 4 x
// 16 lanes in a fixed order.
#pragma once

#include <cmath>
#include <limits>

#include "kernels/cpu/exponential.h"
#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"

namespace strait::cpu {

// Sum over the row of exp(z - largest); each exponential goes to `kept`, if that is not null.
template <class V, class T>
float sum_of_exponentials(float* kept, const T* z, int64_t columns, float largest) {
  V sums[4] = {V::zero(), V::zero(), V::zero(), V::zero()};
  const V shift = V::set1(largest);
  int64_t v = 0;
  for (; v + 64 <= columns; v += 64)
    for (int i = 0; i < 4; ++i) {
      const V e = exponential(V::load(z + v + 16 * i) - shift);
      sums[i] = sums[i] + e;
      if (kept != nullptr) e.store(kept + v + 16 * i);
    }
  for_groups(columns - v, [&](int64_t i, auto lanes) {
    const V e = exponential(load<V>(z + v + i, lanes) - shift);
    float values[16] = {};
    store(values, e, lanes);  // the lanes behind the row's end count as 0
    sums[0] = sums[0] + V::load(values);
    if (kept != nullptr) store(kept + v + i, e, lanes);
  });
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])).sum();
}

template <class V, class T>
float largest_of(const T* z, int64_t columns) {
  V largest = V::set1(-std::numeric_limits<float>::infinity());
  int64_t v = 0;
  for (; v + 16 <= columns; v += 16) largest = larger(V::load(z + v), largest);
  float result = largest.max();
  for (; v < columns; ++v) result = std::max(result, static_cast<float>(z[v]));
  return result;
}

template <class V, class T>
float cross_entropy_row(T* z, int64_t columns, int32_t target, float scale, bool gradient,
                        float* exponentials) {
  if (target < 0) {
    if (gradient)
      for_groups(columns, [&](int64_t v, auto lanes) { store(z + v, V::zero(), lanes); });
    return 0.0f;
  }
  const float largest = largest_of<V>(z, columns);
  const float sum = sum_of_exponentials<V>(gradient ? exponentials : nullptr, z, columns, largest);
  const double loss =
      std::log(static_cast<double>(sum)) -
      (static_cast<double>(static_cast<float>(z[target])) - static_cast<double>(largest));
  if (gradient) {
    const V factor = V::set1(scale / sum);
    for_groups(columns, [&](int64_t v, auto lanes) {
      store(z + v, load<V>(exponentials + v, lanes) * factor, lanes);
    });
    z[target] = T((exponentials[target] - sum) / sum * scale);
  }
  return static_cast<float>(loss);
}

template <class V>
void cross_entropy(Tensor loss, Tensor logits, Tensor targets, double scale, bool gradient,
                   int threads, Scratch& scratch) {
  const int64_t N = logits.size(0), columns = logits.size(1), rows = rows_per_chunk(columns);
  check_ids(Op::cross_entropy, "targets", targets, -1, columns);
  scratch.reserve(static_cast<size_t>(columns) * sizeof(float));
  by_type(logits.dtype, [&](auto element) {
    using T = decltype(element);
    parallel_for(threads, chunks_of(N, rows), [&](int64_t chunk, int thread) {
      const Range range = chunk_range(chunk, rows, N);
      for (int64_t n = range.begin; n < range.end; ++n)
        loss.as<float>()[n] = cross_entropy_row<V>(
            logits.as<T>() + n * columns, columns, targets.as<const int32_t>()[n],
            static_cast<float>(scale), gradient, scratch.of_thread<float>(thread));
    });
  });
}

}  // namespace strait::cpu
