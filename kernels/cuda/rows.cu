// Rows chosen by ids: y[n] = table[ids[n]], and y[n] = x[n] + alpha * table[ids[n]].
//
// Shapes: y, x (N,C), table (V,C), ids (N) i32 in [0,V). Elements per token: 2C to gather, 3C to
// add; popular rows of the table come from the cache. Determinism: every element by itself (the sum
// over equal ids is in scatter_rows.cu). One word or element a thread along C, so that a warp
// reads whole lines of one table row.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 256;

// `Word` is what is copied at once: 16 bytes, or an unsigned type of the element's size.
template <typename Word>
__global__ void gather_kernel(Word* y, const Word* table, const int32_t* ids, int64_t table_rows,
                              int64_t width, int64_t count) {
  const int64_t i = global_index();
  if (i < count) y[i] = table[checked_index(ids[i / width], table_rows) * width + i % width];
}

__global__ void add_gathered_kernel(FloatArray y, int64_t y_stride, FloatArray x, int64_t x_stride,
                                    FloatArray table, const int32_t* ids, int64_t table_rows,
                                    float alpha, int64_t width, int64_t count) {
  const int64_t i = global_index();
  if (i >= count) return;
  const int64_t n = i / width, c = i % width;
  y.store(n * y_stride + c, x.load(n * x_stride + c) +
                                alpha * table.load(checked_index(ids[n], table_rows) * width + c));
}

}  // namespace

void CudaBackend::do_gather_rows(Tensor y, Tensor table, Tensor ids) {
  const auto row_bytes = static_cast<size_t>(y.size(1)) * size_of(y.dtype);
  const auto gather = [&](auto word) {
    using Word = decltype(word);
    const auto width = static_cast<int64_t>(row_bytes / sizeof(Word));
    const int64_t count = y.size(0) * width;
    launch(gather_kernel<Word>, grid_of(blocks_for(count, kThreads)), kThreads, 0, stream_,
           static_cast<Word*>(y.data), static_cast<const Word*>(table.data), ids.as<int32_t>(),
           table.size(0), width, count);
  };
  const size_t places =
      reinterpret_cast<uintptr_t>(y.data) | reinterpret_cast<uintptr_t>(table.data);
  if ((row_bytes | places) % sizeof(uint4) == 0) return gather(uint4{});
  switch (size_of(y.dtype)) {
    case 1:
      return gather(uint8_t{});
    case 2:
      return gather(uint16_t{});
    case 4:
      return gather(uint32_t{});
    default:
      return gather(uint64_t{});
  }
}

void CudaBackend::do_add_gathered_rows(Tensor y, Tensor x, Tensor table, Tensor ids, double alpha) {
  launch(add_gathered_kernel, grid_of(blocks_for(y.elements(), kThreads)), kThreads, 0, stream_,
         float_array(y), y.stride(0), float_array(x), x.stride(0), float_array(table),
         ids.as<int32_t>(), table.size(0), alpha, y.size(1), y.elements());
}

}  // namespace strait
