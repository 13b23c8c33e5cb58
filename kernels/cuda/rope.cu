// Rotary position embedding (Su et al. 2021), halves rotated as Hugging Face does, in place;
// `inverse` is the backward.
//   (x_i, x_{i+Dh/2}) <- (x_i cos - x_{i+Dh/2} sin, x_{i+Dh/2} cos + x_i sin),  i < Dh/2
//
// Shapes: x (B,T,H,Dh) T, strided over B and T; table (P,Dh) f32, cos then sin; positions (T) i32.
// Elements per token: H*Dh read and written; the table's row is shared by the heads and comes from
// the cache. Determinism: every pair by itself. One pair a thread; the threads of a warp share a
// head, so both halves are whole lines.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 256;

struct RopeShape {
  int64_t pairs, heads, tokens;        // pairs = Dh/2
  int64_t batch_stride, token_stride;  // elements
  int64_t table_rows;
  int64_t count;  // B*T*H*Dh/2
};

template <typename T>
__global__ void rope_kernel(T* x, const float* table, const int32_t* positions, RopeShape shape,
                            float direction) {
  const int64_t i = global_index();
  if (i >= shape.count) return;
  const int64_t pair = i % shape.pairs;
  const int64_t head = i / shape.pairs % shape.heads;
  const int64_t token = i / (shape.pairs * shape.heads) % shape.tokens;
  const int64_t sequence = i / (shape.pairs * shape.heads * shape.tokens);

  const float* row = table + checked_index(positions[token], shape.table_rows) * 2 * shape.pairs;
  const float cosine = row[pair], sine = direction * row[pair + shape.pairs];
  T* first = x + sequence * shape.batch_stride + token * shape.token_stride +
             head * 2 * shape.pairs + pair;
  T* second = first + shape.pairs;
  const float a = widen(*first), b = widen(*second);
  *first = narrow<T>(a * cosine - b * sine);
  *second = narrow<T>(b * cosine + a * sine);
}

}  // namespace

void CudaBackend::do_rope(Tensor x, Tensor table, Tensor positions, bool inverse) {
  const RopeShape shape{x.size(3) / 2, x.size(2),     x.size(1),       x.stride(0),
                        x.stride(1),   table.size(0), x.elements() / 2};
  dispatch(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    launch(rope_kernel<T>, grid_of(blocks_for(shape.count, kThreads)), kThreads, 0, stream_,
           x.as<T>(), table.as<float>(), positions.as<int32_t>(), shape, inverse ? -1.0f : 1.0f);
  });
}

}  // namespace strait
