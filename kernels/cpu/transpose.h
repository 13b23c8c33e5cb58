// Transposed copies in 16 x 16 blocks: out[j][i] = in[i][j]. Exact.
#pragma once

#include "kernels/cpu/lanes.h"

namespace strait::cpu {

// in (rows, columns) with row stride ld_in -> out (columns, rows) with row stride ld_out.
template <class V, class From, class To>
void transpose(To* out, int64_t ld_out, const From* in, int64_t ld_in, int64_t rows,
               int64_t columns) {
  for (int64_t i = 0; i < rows; i += 16) {
    const int64_t high = rows - i < 16 ? rows - i : 16;
    for_groups(columns, [&](int64_t j, auto lanes) {
      V block[16];
      for (int64_t r = 0; r < 16; ++r)
        block[r] = r < high ? load<V>(in + (i + r) * ld_in + j, lanes) : V::zero();
      V::transpose(block);
      const int64_t wide = columns - j < 16 ? columns - j : 16;
      for (int64_t c = 0; c < wide; ++c) {
        if (high == 16)
          block[c].store(out + (j + c) * ld_out + i);
        else
          block[c].store_part(out + (j + c) * ld_out + i, static_cast<int>(high));
      }
    });
  }
}

}  // namespace strait::cpu
