// Rotary position embedding (Su et al. 2021), halves rotated as Hugging Face does, in place;
// `inverse` is the backward.
//   (x_i, x_{i+Dh/2}) <- (x_i cos - x_{i+Dh/2} sin, x_{i+Dh/2} cos + x_i sin),  i < Dh/2
//
// Shapes: x (B,T,H,Dh) T, strided over B and T; table (P,Dh) f32, cos then sin; positions (T) i32.
// Elements per token: H*Dh read and written; the table's row is shared by the heads and comes from
// the cache. Determinism: every pair by itself. A thread moves 16 bytes of each half at once where the shapes allow it.
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

// A thread a pack of pairs of one head.
template <typename T, int kPack>
__global__ void rope_kernel(T* x, const float* table, const int32_t* positions, RopeShape shape,
                            float direction) {
  const int64_t i = global_index() * kPack;
  if (i >= shape.count) return;
  const int64_t pair = i % shape.pairs;
  const int64_t head = i / shape.pairs % shape.heads;
  const int64_t token = i / (shape.pairs * shape.heads) % shape.tokens;
  const int64_t sequence = i / (shape.pairs * shape.heads * shape.tokens);

  const float* row = table + checked_index(positions[token], shape.table_rows) * 2 * shape.pairs;
  const auto cosine = load_pack<kPack>(row + pair),
             sine = load_pack<kPack>(row + shape.pairs + pair);
  T* place = x + sequence * shape.batch_stride + token * shape.token_stride +
             head * 2 * shape.pairs + pair;
  auto first = load_pack<kPack>(place), second = load_pack<kPack>(place + shape.pairs);
#pragma unroll
  for (int j = 0; j < kPack; ++j) {
    const float a = first.x[j], b = second.x[j], s = direction * sine.x[j];
    first.x[j] = a * cosine.x[j] - b * s;
    second.x[j] = b * cosine.x[j] + a * s;
  }
  store_pack(place, first);
  store_pack(place + shape.pairs, second);
}

}  // namespace

void CudaBackend::do_rope(Tensor x, Tensor table, Tensor positions, bool inverse) {
  const RopeShape shape{x.size(3) / 2, x.size(2),     x.size(1),       x.stride(0),
                        x.stride(1),   table.size(0), x.elements() / 2};
  // Rows begin where strides and heads say: all must be whole packs.
  const auto whole = [](const Tensor& t, int64_t pack) {
    return t.stride(0) % pack == 0 && t.stride(1) % pack == 0;
  };
  dispatch(x.dtype, [&](auto tag) {
    using T = decltype(tag);
    const int64_t width = whole(x, kFullPack<T>) ? shape.pairs : 1;
    dispatch_pack<T>(width, {x.data, table.data}, [&](auto pack) {
      launch(rope_kernel<T, pack()>, grid_of(blocks_for(shape.count, kThreads * pack())), kThreads,
             0, stream_, x.as<T>(), table.as<float>(), positions.as<int32_t>(), shape,
             inverse ? -1.0f : 1.0f);
    });
  });
}

}  // namespace strait
