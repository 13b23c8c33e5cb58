// The largest entries of a row, entries and columns by index, and sums of squares over columns.
//
// Shapes: x (N,C) T; values (N,k) f32 or bf16; indices (N,k) or (1,k) u16 or u8. Determinism: topk counts and compares bits; the others move
// elements; a column's sum takes chunks of 256 rows in ascending order, then the chunks. topk_rows: a block a row finds the k-th largest magnitude
// bit by bit, 31 passes over a row that stays in the cache, and then puts its entries in the order of their columns by counting ahead of each.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"
#include "kernels/quantization.h"

namespace strait {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / kWarp;
constexpr int64_t kChunkRows = 256;

// Whole numbers of a type known at run time, below 65536.
struct IndexArray {
  void* data = nullptr;
  bool is_u8 = false;

  __device__ int32_t load(int64_t i) const {
    return is_u8 ? static_cast<const uint8_t*>(data)[i] : static_cast<const uint16_t*>(data)[i];
  }
  __device__ void store(int64_t i, int64_t index) const {
    if (is_u8)
      static_cast<uint8_t*>(data)[i] = static_cast<uint8_t>(index);
    else
      static_cast<uint16_t*>(data)[i] = static_cast<uint16_t>(index);
  }
};

IndexArray index_array(const Tensor& t) { return {t.data, t.dtype == DType::u8}; }

// Of the threads of a block: how many before this one, and how many in all, said yes.
struct Count {
  int before, all;
};
__device__ inline Count block_count(bool yes) {
  __shared__ int of_warp[kWarps];
  const unsigned votes = __ballot_sync(kAllLanes, yes);
  const int lane = static_cast<int>(threadIdx.x) % kWarp,
            warp = static_cast<int>(threadIdx.x) / kWarp;
  if (lane == 0) of_warp[warp] = __popc(votes);
  __syncthreads();
  Count count{__popc(votes & ((1u << lane) - 1u)), 0};
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) count.before += of_warp[w];
    count.all += of_warp[w];
  }
  __syncthreads();  // the next call may overwrite
  return count;
}

__device__ inline int block_sum_of(int x) {
  __shared__ int of_warp[kWarps];
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kAllLanes, x, step);
  if (threadIdx.x % kWarp == 0) of_warp[threadIdx.x / kWarp] = x;
  __syncthreads();
  int total = 0;
  for (int w = 0; w < kWarps; ++w) total += of_warp[w];
  __syncthreads();
  return total;
}

template <typename T>
__global__ void topk_kernel(FloatArray values, IndexArray indices, const T* x, int64_t columns,
                            int k) {
  const auto n = static_cast<int64_t>(blockIdx.x);
  const T* row = x + n * columns;
  const auto key = [&](int64_t c) { return magnitude_bits(widen(row[c])); };
  const auto keys_above = [&](uint32_t least) {
    int here = 0;
    for (int64_t c = threadIdx.x; c < columns; c += kThreads) here += key(c) >= least ? 1 : 0;
    return block_sum_of(here);
  };
  uint32_t threshold = 0;  // the largest that k keys reach
  for (int bit = 30; bit >= 0; --bit) {
    const uint32_t candidate = threshold | 1u << bit;
    if (keys_above(candidate) >= k) threshold = candidate;
  }
  const int ties = k - keys_above(threshold + 1);
  int above_before = 0, ties_before = 0;
  for (int64_t begin = 0; begin < columns; begin += kThreads) {
    const int64_t c = begin + threadIdx.x;
    const uint32_t mine = c < columns ? key(c) : 0u;
    const bool above = c < columns && mine > threshold, tie = c < columns && mine == threshold;
    const Count aboves = block_count(above), equals = block_count(tie);
    const int rank_of_tie = ties_before + equals.before;
    if (above || (tie && rank_of_tie < ties)) {
      const int64_t at = n * k + above_before + aboves.before + min(rank_of_tie, ties);
      values.store(at, widen(row[c]));
      indices.store(at, c);
    }
    above_before += aboves.all;
    ties_before += equals.all;
  }
}

__global__ void gather_kernel(FloatArray values, FloatArray x, IndexArray indices, int64_t columns,
                              int64_t k, int64_t stride, int64_t count) {
  const int64_t i = global_index();
  if (i >= count) return;
  const int64_t n = i / k;
  values.store(i, x.load(n * columns + checked_index(indices.load(n * stride + i % k), columns)));
}

// A block a row.
__global__ void scatter_kernel(FloatArray x, FloatArray values, IndexArray indices, int64_t columns,
                               int64_t k, int64_t stride) {
  const auto n = static_cast<int64_t>(blockIdx.x);
  for (int64_t c = threadIdx.x; c < columns; c += kThreads) x.store(n * columns + c, 0.0f);
  __syncthreads();
  for (int64_t i = threadIdx.x; i < k; i += kThreads)
    x.store(n * columns + checked_index(indices.load(n * stride + i), columns),
            values.load(n * k + i));
}

// Block (columns, chunk of rows).
template <typename T>
__global__ void partial_squares_kernel(float* partial, const T* x, int64_t rows, int64_t columns) {
  const int64_t c = global_index();
  if (c >= columns) return;
  const int64_t begin = static_cast<int64_t>(blockIdx.y) * kChunkRows,
                end = min(begin + kChunkRows, rows);
  float sum = 0.0f;
  for (int64_t n = begin; n < end; ++n) {
    const float v = widen(x[n * columns + c]);
    sum = fmaf(v, v, sum);
  }
  partial[static_cast<int64_t>(blockIdx.y) * columns + c] = sum;
}

__global__ void add_chunks_kernel(float* sums, const float* partial, int64_t chunks,
                                  int64_t columns) {
  const int64_t c = global_index();
  if (c >= columns) return;
  float sum = 0.0f;
  for (int64_t i = 0; i < chunks; ++i) sum += partial[i * columns + c];
  sums[c] = sum;
}

// One thread a byte.
__global__ void pack_kernel(uint8_t* bits, int64_t bytes, IndexArray columns, int64_t k) {
  const int64_t b = global_index();
  if (b >= bytes) return;
  unsigned byte = 0;
  for (int64_t i = 0; i < k; ++i)
    if (checked_index(columns.load(i), 8 * bytes) / 8 == b) byte |= 1u << columns.load(i) % 8;
  bits[b] = static_cast<uint8_t>(byte);
}

// One thread a byte, which counts the bits before it; the first also fills up.
__global__ void unpack_kernel(IndexArray columns, int64_t k, const uint8_t* bits, int64_t bytes) {
  const int64_t b = global_index();
  if (b >= bytes) return;
  int64_t found = 0;
  for (int64_t before = 0; before < b; ++before) found += __popc(bits[before]);
  for (int bit = 0; bit < 8; ++bit)
    if ((bits[b] >> bit & 1) != 0 && found < k) columns.store(found++, 8 * b + bit);
  if (b == bytes - 1)
    for (; found < k; ++found) columns.store(found, 0);
}

int64_t row_stride(const Tensor& indices) { return indices.size(0) == 1 ? 0 : indices.size(1); }

}  // namespace

void CudaBackend::do_topk_rows(Tensor values, Tensor indices, Tensor x) {
  dispatch(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    launch(topk_kernel<T>, grid_of(x.size(0)), kThreads, 0, stream_, float_array(values),
           index_array(indices), x.as<T>(), x.size(1), static_cast<int>(indices.size(1)));
  });
}

void CudaBackend::do_gather_entries(Tensor values, Tensor x, Tensor indices) {
  launch(gather_kernel, grid_of(blocks_for(values.elements(), kThreads)), kThreads, 0, stream_,
         float_array(values), float_array(x), index_array(indices), x.size(1), values.size(1),
         row_stride(indices), values.elements());
}

void CudaBackend::do_scatter_entries(Tensor x, Tensor values, Tensor indices) {
  launch(scatter_kernel, grid_of(x.size(0)), kThreads, 0, stream_, float_array(x),
         float_array(values), index_array(indices), x.size(1), values.size(1), row_stride(indices));
}

void CudaBackend::do_column_sum_squares(Tensor sums, Tensor x) {
  const int64_t columns = x.size(1), chunks = blocks_for(x.size(0), kChunkRows);
  auto* partial =
      static_cast<float*>(scratch(static_cast<size_t>(chunks * columns) * sizeof(float)));
  const int64_t blocks = blocks_for(columns, kThreads);
  dispatch(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    launch(partial_squares_kernel<T>, grid_of(blocks, chunks), kThreads, 0, stream_, partial,
           x.as<T>(), x.size(0), columns);
  });
  launch(add_chunks_kernel, grid_of(blocks), kThreads, 0, stream_, sums.as<float>(), partial,
         chunks, columns);
}

void CudaBackend::do_pack_columns(Tensor bits, Tensor columns) {
  launch(pack_kernel, grid_of(blocks_for(bits.size(0), kThreads)), kThreads, 0, stream_,
         bits.as<uint8_t>(), bits.size(0), index_array(columns), columns.size(1));
}

void CudaBackend::do_unpack_columns(Tensor columns, Tensor bits) {
  launch(unpack_kernel, grid_of(blocks_for(bits.size(0), kThreads)), kThreads, 0, stream_,
         index_array(columns), columns.size(1), bits.as<uint8_t>(), bits.size(0));
}

}  // namespace strait
