// The nearest code of every group of a latent. Sixteen codes at once, from a codebook that was laid out with a group's codes side by
// side; the distance of one code is summed column by column, whatever the lanes, and of equal ones the lowest wins.
#pragma once

#include <limits>

#include "kernels/cpu/lanes.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/vq_plain.h"

namespace strait::cpu {

// The code (of `padded`, a multiple of 16) nearest to z (s); codes (s, padded).
template <class V>
int64_t nearest_code(const float* z, const float* codes, int64_t s, int64_t padded) {
  V least = V::set1(std::numeric_limits<float>::infinity()), best = V::zero();
  for (int64_t k = 0; k < padded; k += 16) {
    V distance = V::zero();
    for (int64_t c = 0; c < s; ++c) {
      const V difference = V::set1(z[c]) - V::load(codes + c * padded + k);
      distance = distance + difference * difference;
    }
    best = where_less(distance, least, V::set1(static_cast<float>(k / 16)), best);
    least = where_less(distance, least, distance, least);
  }
  float distances[16], blocks[16];
  least.store(distances);
  best.store(blocks);
  int64_t code = static_cast<int64_t>(blocks[0]) * 16;
  float distance = distances[0];
  for (int lane = 1; lane < 16; ++lane) {
    const int64_t other = static_cast<int64_t>(blocks[lane]) * 16 + lane;
    if (distances[lane] < distance || (distances[lane] == distance && other < code)) {
      code = other;
      distance = distances[lane];
    }
  }
  return code;
}

template <class V>
void vq_encode(Tensor index, Tensor z, Tensor codebook, int threads, Scratch& scratch) {
  const int64_t r = z.size(1), groups = index.size(1), s = r / groups, codes = codebook.size(0),
                padded = (codes + 15) / 16 * 16, rows = rows_per_chunk(r * codes);
  scratch.reserve(static_cast<size_t>(r * padded) * sizeof(float));
  float* side_by_side = scratch.of_thread<float>(0);  // (r, padded), read by all threads
  lay_out_codes(side_by_side, codebook, padded);
  parallel_for(threads, chunks_of(z.size(0), rows), [&](int64_t chunk, int) {
    const Range range = chunk_range(chunk, rows, z.size(0));
    for (int64_t n = range.begin; n < range.end; ++n)
      for (int64_t g = 0; g < groups; ++g) {
        const int64_t code = nearest_code<V>(z.as<const float>() + n * r + g * s,
                                             side_by_side + g * s * padded, s, padded);
        index.as<uint16_t>()[n * groups + g] = static_cast<uint16_t>(code < codes ? code : 0);
      }
  });
}

}  // namespace strait::cpu
