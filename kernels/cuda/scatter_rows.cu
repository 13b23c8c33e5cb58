// dtable[ids[n]] += dy[n], the gradient of an embedding, without atomics: the (id, n) pairs are
// sorted by id with CUB's radix sort, which is stable, so that each id's rows stand together in
// ascending n; then one block column a run of equal ids adds its rows in that order.
//
// Shapes: dtable (V,C) f32; dy (N,C) T; ids (N) i32. Elements per token: C of dy read; C of dtable
// read and written per distinct id. Determinism: the order of every sum is that of n, whatever the
// grid. A block whose place does not begin a run ends at once: cheaper than finding the runs first.
// A frequent id is one long serial run; that is the price of the order.
#include <cub/device/device_radix_sort.cuh>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 128;

__global__ void iota_kernel(int32_t* values, int n) {
  const int64_t i = global_index();
  if (i < n) values[i] = static_cast<int32_t>(i);
}

// ids and rows as sorted. Block (place, column block).
template <typename T>
__global__ void add_runs_kernel(float* dtable, const T* dy, const int32_t* ids, const int32_t* rows,
                                int n, int64_t table_rows, int64_t width) {
  const auto begin = static_cast<int>(blockIdx.x);
  const int32_t id = ids[begin];
  if (begin > 0 && ids[begin - 1] == id) return;
  const int64_t c = static_cast<int64_t>(blockIdx.y) * kThreads + threadIdx.x;
  if (c >= width) return;
  float& target = dtable[checked_index(id, table_rows) * width + c];
  float total = target;
  for (int i = begin; i < n && ids[i] == id; ++i) total += widen(dy[rows[i] * width + c]);
  target = total;
}

size_t rounded_up(size_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace

void CudaBackend::do_scatter_add_rows(Tensor dtable, Tensor dy, Tensor ids) {
  const int64_t width = dy.size(1);
  STRAIT_CHECK(ids.elements() <= INT32_MAX, "scatter_add_rows of more than 2^31 - 1 rows");
  const auto n = static_cast<int>(ids.elements());
  if (n == 0) return;

  size_t sort_bytes = 0;
  const auto* null_ids = static_cast<const int32_t*>(nullptr);
  auto* null_out = static_cast<int32_t*>(nullptr);
  CUDA_CHECK(cub::DeviceRadixSort::SortPairs(nullptr, sort_bytes, null_ids, null_out, null_ids,
                                             null_out, n, 0, 32, stream_));
  const size_t column = rounded_up(static_cast<size_t>(n) * sizeof(int32_t));
  auto* memory = static_cast<std::byte*>(scratch(3 * column + sort_bytes));
  auto* rows_in_order = reinterpret_cast<int32_t*>(memory);
  auto* sorted_ids = reinterpret_cast<int32_t*>(memory + column);
  auto* sorted_rows = reinterpret_cast<int32_t*>(memory + 2 * column);

  launch(iota_kernel, grid_of(blocks_for(n, kThreads)), kThreads, 0, stream_, rows_in_order, n);
  CUDA_CHECK(cub::DeviceRadixSort::SortPairs(
      memory + 3 * column, sort_bytes, ids.as<const int32_t>(), sorted_ids,
      static_cast<const int32_t*>(rows_in_order), sorted_rows, n, 0, 32, stream_));
  dispatch(dy.dtype, [&](auto tag) {
    using T = decltype(tag);
    launch(add_runs_kernel<T>, grid_of(n, blocks_for(width, kThreads)), kThreads, 0, stream_,
           dtable.as<float>(), dy.as<T>(), sorted_ids, sorted_rows, n, dtable.size(0), width);
  });
}

}  // namespace strait
