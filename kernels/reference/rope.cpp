// Rotary position embedding (Su et al. 2021), rotating halves: (x_i, x_{i+Dh/2}) turns by the angle
// whose cosine and sine stand in the table's row of the token's position; `inverse` turns it back.
#include "kernels/reference/reference.h"

namespace strait {

void ReferenceBackend::do_rope(Tensor x, Tensor table, Tensor positions, bool inverse) {
  check_ids(Op::rope, "positions", positions, 0, table.size(0));
  const int64_t B = x.size(0), T = x.size(1), H = x.size(2), half = x.size(3) / 2;
  for (int64_t b = 0; b < B; ++b)
    for (int64_t t = 0; t < T; ++t)
      for (int64_t h = 0; h < H; ++h)
        for (int64_t i = 0; i < half; ++i) {
          const double cosine = get(table, get_id(positions, t), i);
          const double sine = get(table, get_id(positions, t), i + half) * (inverse ? -1.0 : 1.0);
          const double first = get(x, b, t, h, i), second = get(x, b, t, h, i + half);
          set(x, first * cosine - second * sine, b, t, h, i);
          set(x, second * cosine + first * sine, b, t, h, i + half);
        }
}

}  // namespace strait
