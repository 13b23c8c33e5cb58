// What the forward and the backward attention kernels share: heads as strided views, the mask, and
// tiles in shared memory.
//
// The tiling: a block owns 16 rows (queries, or keys in one half of the backward), four a warp, and
// streams the other side in tiles of 32 rows. While scores are computed, a lane stands for a
// streamed row: it reads its row of the tile as float4 and the owned row is the same for the whole
// warp (a broadcast). While a weighted sum of streamed rows is formed, a lane stands for a column
// and the weights come from the other lanes by shuffles. Four owned rows a warp use every streamed
// value four times; a tile's row is padded by four floats, so that the float4 of eight neighbouring
// lanes hit all banks. Arithmetic is fp32 outside the tensor cores: right for every dtype and head
// width up to 256, not fast.
#pragma once

#include <limits>

#include "kernels/backend.h"
#include "kernels/cuda/device.cuh"

namespace strait::attention {

constexpr int kWarps = 4;
constexpr int kThreads = kWarps * kWarp;
constexpr int kRowsPerWarp = 4;
constexpr int kOwnedRows = kWarps * kRowsPerWarp;
constexpr int kTileRows = kWarp;  // one a lane
constexpr int kPadding = 4;       // floats

// (B,T,H,Dh), strided over B and T.
template <typename T>
struct Heads {
  T* data = nullptr;
  int64_t batch_stride = 0, token_stride = 0;
  int tokens = 0, heads = 0, width = 0;

  explicit Heads(const Tensor& t)
      : data(t.as<T>()),
        batch_stride(t.stride(0)),
        token_stride(t.stride(1)),
        tokens(static_cast<int>(t.size(1))),
        heads(static_cast<int>(t.size(2))),
        width(static_cast<int>(t.size(3))) {}
  __device__ const T* row(int b, int t, int h) const {
    return data + b * batch_stride + t * token_stride + static_cast<int64_t>(h) * width;
  }
};

// An output of the same layout, f32 or bf16.
struct HeadsOut {
  FloatArray data;
  int64_t batch_stride = 0, token_stride = 0;
  int width = 0;

  explicit HeadsOut(const Tensor& t)
      : data(float_array(t)),
        batch_stride(t.stride(0)),
        token_stride(t.stride(1)),
        width(static_cast<int>(t.size(3))) {}
  __device__ int64_t row(int b, int t, int h) const {
    return b * batch_stride + t * token_stride + static_cast<int64_t>(h) * width;
  }
};

struct Mask {
  const int32_t* q_position = nullptr;
  const int32_t* k_position = nullptr;
  const int32_t* q_document = nullptr;  // null: no documents
  const int32_t* k_document = nullptr;
  int q_tokens = 0, k_tokens = 0;
  bool causal = true;

  explicit Mask(const AttentionMask& m)
      : q_position(m.q_position.as<int32_t>()),
        k_position(m.k_position.as<int32_t>()),
        q_document(m.q_document.defined() ? m.q_document.as<int32_t>() : nullptr),
        k_document(m.k_document.defined() ? m.k_document.as<int32_t>() : nullptr),
        q_tokens(static_cast<int>(m.q_position.size(0))),
        k_tokens(static_cast<int>(m.k_position.size(0))),
        causal(m.causal) {}

  // False for rows past either end.
  __device__ bool allows(int b, int q, int k) const {
    if (q >= q_tokens || k >= k_tokens) return false;
    if (causal && k_position[k] > q_position[q]) return false;
    return q_document == nullptr || q_document[static_cast<int64_t>(b) * q_tokens + q] ==
                                        k_document[static_cast<int64_t>(b) * k_tokens + k];
  }

  // True if the causal mask forbids every pair of the two ranges of rows; the same on every thread
  // of a warp whose lanes call it. Leaving such a tile out changes no bit: it would add zeros.
  __device__ bool forbids_all(int q_begin, int q_rows, int k_begin, int k_rows) const {
    if (!causal) return false;
    const int lane = static_cast<int>(threadIdx.x % kWarp);
    const bool q_here = lane < q_rows && q_begin + lane < q_tokens,
               k_here = lane < k_rows && k_begin + lane < k_tokens;
    const int latest_query = q_here ? q_position[q_begin + lane] : std::numeric_limits<int>::min();
    const int earliest_key = k_here ? k_position[k_begin + lane] : std::numeric_limits<int>::max();
    return __reduce_min_sync(kAllLanes, earliest_key) > __reduce_max_sync(kAllLanes, latest_query);
  }
};

// Copies rows [begin, begin + kRows) of a head into shared memory as fp32, `stride` floats apart;
// zeros past the last token and past the head's width. All threads of the block take part.
template <int kRows, int kWidth, typename T>
__device__ void load_rows(float* shared, int stride, const Heads<T>& source, int b, int h,
                          int begin) {
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kWidth; i += kThreads) {
    const int row = i / kWidth, column = i % kWidth;
    const bool inside = begin + row < source.tokens && column < source.width;
    shared[row * stride + column] = inside ? widen(source.row(b, begin + row, h)[column]) : 0.0f;
  }
}

// dot[r] = owned row r of this warp . this lane's row of the tile.
template <int kWidth>
__device__ void dot_products(float (&dot)[kRowsPerWarp], const float* owned,
                             const float* tile_row) {
  for (float& d : dot) d = 0.0f;
#pragma unroll 4
  for (int c = 0; c < kWidth; c += 4) {
    const float4 b = *reinterpret_cast<const float4*>(tile_row + c);
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) {
      const float4 a = *reinterpret_cast<const float4*>(owned + r * kWidth + c);
      dot[r] = fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, dot[r]))));
    }
  }
}

// sum[r][c] += sum over the tile's rows j, in order, of weight[r] on lane j * tile[j][lane + 32 c].
template <int kColumns>
__device__ void add_weighted_rows(float (&sum)[kRowsPerWarp][kColumns],
                                  const float (&weight)[kRowsPerWarp], const float* tile,
                                  int stride) {
  const int lane = static_cast<int>(threadIdx.x % kWarp);
  for (int j = 0; j < kTileRows; ++j) {
    float w[kRowsPerWarp];
#pragma unroll
    for (int r = 0; r < kRowsPerWarp; ++r) w[r] = __shfl_sync(kAllLanes, weight[r], j);
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const float value = tile[j * stride + lane + kWarp * c];
#pragma unroll
      for (int r = 0; r < kRowsPerWarp; ++r) sum[r][c] = fmaf(w[r], value, sum[r][c]);
    }
  }
}

// Calls function(std::integral_constant<int, W>) with the smallest compiled width that holds the
// head's.
template <typename Function>
void dispatch_width(int64_t width, Function&& function) {
  STRAIT_CHECK(width <= 256,
               "CUDA attention: head width " + std::to_string(width) + ", at most 256");
  if (width <= 64) return function(std::integral_constant<int, 64>{});
  if (width <= 128) return function(std::integral_constant<int, 128>{});
  return function(std::integral_constant<int, 256>{});
}

}  // namespace strait::attention
