// Vector quantisation but for its search: moving rows, counting, running means, packing. Compiled once for the baseline instruction set.
#pragma once

#include "kernels/cpu/parallel.h"

namespace strait::cpu {

// The transpose of a codebook (K,r) as (r, padded), filled up with codes at infinity.
void lay_out_codes(float* side_by_side, Tensor codebook, int64_t padded);
void put_rows(Tensor table, Tensor x, Tensor ids, int threads);
void vq_decode(Tensor y, Tensor index, Tensor codebook, double alpha, int threads);
void vq_statistics(Tensor count, Tensor sum, Tensor z, Tensor index, int threads);
void vq_update(Tensor count, Tensor sum, Tensor batch_count, Tensor batch_sum, Tensor donors,
               double decay, double threshold, int threads);
void vq_centroids(Tensor y, Tensor sum, Tensor count, Tensor rows, int threads);
void pack_bits(Tensor bytes, Tensor values, int bits, int threads);
void unpack_bits(Tensor values, Tensor bytes, int bits, int threads);

}  // namespace strait::cpu
