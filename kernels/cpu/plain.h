// The ops without arithmetic in lanes, compiled once for the baseline instruction set.
#pragma once

#include "kernels/cpu/parallel.h"

namespace strait::cpu {

// y[n] = table[ids[n]]: copies rows.
void gather_rows(Tensor y, Tensor table, Tensor ids, int threads);
// By index, so in any order.
void random_normal(Tensor y, const Philox& rng, uint64_t stream, double stddev, int threads);
// A few doubles each.
void add_statistics(Tensor y, Tensor a, Tensor b);
void clip_factor(Tensor factor, Tensor sum_squares, double max_norm);
// A few angles each.
void bound_forward(Tensor y, Tensor x, Bound bound, double limit);
void bound_backward(Tensor dx, Tensor dy, Tensor x, Bound bound, double limit);
void rotation_coefficients(Tensor f, Tensor angle, RotationSeries series, bool derivative);
// Where row `row` of a tensor whose last dimension is dense begins, in elements.
int64_t row_offset(const Tensor& t, int64_t row);

}  // namespace strait::cpu
