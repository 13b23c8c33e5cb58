// Vector quantisation, its running means, and packed indices.
//
// Shapes: z (N,r) f32, codebook (K,r) f32, index (N,G) u16, s = r/G. Search: 3 s K FLOPs a token and group; a block takes one group,
// holds its codes in shared memory piece by piece, and gives each thread a token. Determinism: a distance is summed column by column
// and of equal ones the lowest code wins; statistics walk the tokens in ascending order, one thread a column, so that nothing is added
// out of order.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 256;
constexpr int kPiece = 2048;  // numbers of a codebook in shared memory at once

// Block (token block, group).
__global__ void encode_kernel(uint16_t* index, const float* z, const float* codebook, int64_t rows,
                              int64_t r, int s, int codes) {
  __shared__ float piece[kPiece];
  const int64_t groups = r / s, g = blockIdx.y,
                n = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  const int at_once = s <= kPiece ? kPiece / s : 0;
  float least = INFINITY;
  int best = 0;
  const float* mine = z + (n < rows ? n : 0) * r + g * s;
  for (int first = 0; first<codes; first += at_once> 0 ? at_once : 1) {
    const int here = at_once == 0 ? 1 : (codes - first < at_once ? codes - first : at_once);
    if (at_once > 0) {
      __syncthreads();
      for (int i = static_cast<int>(threadIdx.x); i < here * s; i += static_cast<int>(blockDim.x))
        piece[i] = codebook[(first + i / s) * r + g * s + i % s];
      __syncthreads();
    }
    for (int k = 0; k < here; ++k) {
      const float* code =
          at_once > 0 ? piece + k * s : codebook + static_cast<int64_t>(first) * r + g * s;
      float distance = 0.0f;
      for (int c = 0; c < s; ++c) {
        const float difference = mine[c] - code[c];
        distance += difference * difference;
      }
      if (distance < least) {
        least = distance;
        best = first + k;
      }
    }
  }
  if (n < rows) index[n * groups + g] = static_cast<uint16_t>(best);
}

__global__ void decode_kernel(float* y, const uint16_t* index, const float* codebook, float alpha,
                              int64_t r, int64_t s, int64_t codes, int64_t count) {
  const int64_t i = global_index();
  if (i >= count) return;
  const int64_t n = i / r, c = i % r;
  y[i] += alpha * codebook[checked_index(index[n * (r / s) + c / s], codes) * r + c];
}

// One thread a (code, column): walks the tokens of its group.
__global__ void statistics_kernel(float* count, float* sum, const float* z, const uint16_t* index,
                                  int64_t rows, int64_t r, int64_t s, int64_t elements) {
  const int64_t i = global_index();
  if (i >= elements) return;
  const int64_t k = i / r, c = i % r, groups = r / s, g = c / s;
  float n = 0.0f, total = 0.0f;
  for (int64_t t = 0; t < rows; ++t) {
    if (index[t * groups + g] != k) continue;
    n += 1.0f;
    total += z[t * r + c];
  }
  sum[i] = total;
  if (c % s == 0) count[k * groups + g] = n;
}

// One thread a (code, group).
__global__ void update_kernel(float* count, float* sum, const float* batch_count,
                              const float* batch_sum, const float* donors, float keep, float add,
                              float threshold, int64_t s, int64_t counts) {
  const int64_t i = global_index();
  if (i >= counts) return;
  const float n = keep * count[i] + add * batch_count[i];
  const bool dead = n < threshold;
  count[i] = dead ? 1.0f : n;
  for (int64_t j = i * s; j < (i + 1) * s; ++j)
    sum[j] = dead ? donors[j] : keep * sum[j] + add * batch_sum[j];
}

__global__ void centroids_kernel(float* y, const float* sum, const float* count,
                                 const int32_t* rows, int64_t r, int64_t s, int64_t codes,
                                 int64_t elements) {
  const int64_t i = global_index();
  if (i >= elements) return;
  const int64_t k = checked_index(rows[i / r], codes), c = i % r;
  y[i] = sum[k * r + c] / count[k * (r / s) + c / s];
}

__global__ void put_kernel(FloatArray table, FloatArray x, const int32_t* ids, int64_t table_rows,
                           int64_t width, int64_t elements) {
  const int64_t i = global_index();
  if (i < elements)
    table.store(checked_index(ids[i / width], table_rows) * width + i % width, x.load(i));
}

__global__ void pack_kernel(uint8_t* bytes, const uint16_t* values, int bits, int64_t total,
                            int64_t count) {
  const int64_t i = global_index();
  if (i >= count) return;
  unsigned byte = 0;
  for (int64_t b = i * 8; b < i * 8 + 8 && b < total; ++b)
    byte |= (static_cast<unsigned>(values[b / bits]) >> (b % bits) & 1u) << (b % 8);
  bytes[i] = static_cast<uint8_t>(byte);
}

__global__ void unpack_kernel(uint16_t* values, const uint8_t* bytes, int bits, int64_t count) {
  const int64_t i = global_index();
  if (i >= count) return;
  unsigned value = 0;
  for (int b = 0; b < bits; ++b) {
    const int64_t at = i * bits + b;
    value |= (static_cast<unsigned>(bytes[at / 8]) >> (at % 8) & 1u) << b;
  }
  values[i] = static_cast<uint16_t>(value);
}

}  // namespace

void CudaBackend::do_put_rows(Tensor table, Tensor x, Tensor ids) {
  launch(put_kernel, grid_of(blocks_for(x.elements(), kThreads)), kThreads, 0, stream_,
         float_array(table), float_array(x), ids.as<int32_t>(), table.size(0), x.size(1),
         x.elements());
}

void CudaBackend::do_vq_encode(Tensor index, Tensor z, Tensor codebook) {
  const int64_t groups = index.size(1), r = z.size(1);
  launch(encode_kernel, grid_of(blocks_for(z.size(0), kThreads), groups), kThreads, 0, stream_,
         index.as<uint16_t>(), z.as<float>(), codebook.as<float>(), z.size(0), r,
         static_cast<int>(r / groups), static_cast<int>(codebook.size(0)));
}

void CudaBackend::do_vq_decode(Tensor y, Tensor index, Tensor codebook, double alpha) {
  launch(decode_kernel, grid_of(blocks_for(y.elements(), kThreads)), kThreads, 0, stream_,
         y.as<float>(), index.as<uint16_t>(), codebook.as<float>(), static_cast<float>(alpha),
         y.size(1), y.size(1) / index.size(1), codebook.size(0), y.elements());
}

void CudaBackend::do_vq_statistics(Tensor count, Tensor sum, Tensor z, Tensor index) {
  launch(statistics_kernel, grid_of(blocks_for(sum.elements(), kThreads)), kThreads, 0, stream_,
         count.as<float>(), sum.as<float>(), z.as<float>(), index.as<uint16_t>(), z.size(0),
         z.size(1), z.size(1) / index.size(1), sum.elements());
}

void CudaBackend::do_vq_update(Tensor count, Tensor sum, Tensor batch_count, Tensor batch_sum,
                               Tensor donors, double decay, double threshold) {
  launch(update_kernel, grid_of(blocks_for(count.elements(), kThreads)), kThreads, 0, stream_,
         count.as<float>(), sum.as<float>(), batch_count.as<float>(), batch_sum.as<float>(),
         donors.as<float>(), static_cast<float>(decay), static_cast<float>(1 - decay),
         static_cast<float>(threshold), sum.size(1) / count.size(1), count.elements());
}

void CudaBackend::do_vq_centroids(Tensor y, Tensor sum, Tensor count, Tensor rows) {
  launch(centroids_kernel, grid_of(blocks_for(y.elements(), kThreads)), kThreads, 0, stream_,
         y.as<float>(), sum.as<float>(), count.as<float>(), rows.as<int32_t>(), sum.size(1),
         sum.size(1) / count.size(1), sum.size(0), y.elements());
}

void CudaBackend::do_pack_bits(Tensor bytes, Tensor values, int bits) {
  launch(pack_kernel, grid_of(blocks_for(bytes.elements(), kThreads)), kThreads, 0, stream_,
         bytes.as<uint8_t>(), values.as<uint16_t>(), bits, values.elements() * bits,
         bytes.elements());
}

void CudaBackend::do_unpack_bits(Tensor values, Tensor bytes, int bits) {
  launch(unpack_kernel, grid_of(blocks_for(values.elements(), kThreads)), kThreads, 0, stream_,
         values.as<uint16_t>(), bytes.as<uint8_t>(), bits, values.elements());
}

}  // namespace strait
