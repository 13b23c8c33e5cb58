// Numbers kept within a limit, the coefficients of a rotation by an angle, and dot products of rows.
//
// Shapes: y, x, angle: a few, a thread each; f (N,J), a thread a row; dot_rows: a, b (N,C), each f32 or bf16. Bytes: every operand
// once, and 8 per 4096 elements twice. Determinism: element by element; dot_rows: blocks of 4096 columns in fp32 (a thread takes every
// 256th, then a fixed tree), the blocks of a row in order in fp64 by one thread, 256 staged at a time as in reductions.cu.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kBlockElements = 4096;

__global__ void bound_forward_kernel(FloatArray y, FloatArray x, Bound bound, float limit,
                                     int64_t n) {
  const int64_t i = global_index();
  if (i >= n) return;
  const float value = x.load(i);
  if (bound == Bound::hard) {
    y.store(i, value < -limit ? -limit : (value > limit ? limit : value));
  } else {
    y.store(i, limit * tanhf(value / limit));
  }
}

__global__ void bound_backward_kernel(FloatArray dx, FloatArray dy, FloatArray x, Bound bound,
                                      float limit, int64_t n) {
  const int64_t i = global_index();
  if (i >= n) return;
  const float value = x.load(i), gradient = dy.load(i);
  if (bound == Bound::hard) {
    dx.store(i, fabsf(value) < limit ? gradient : 0.0f);
  } else {
    const float t = tanhf(value / limit);
    dx.store(i, gradient * (1.0f - t * t));
  }
}

__global__ void coefficients_kernel(float* f, const float* angle, RotationSeries series,
                                    bool derivative, int64_t rows, int64_t columns) {
  const int64_t n = global_index();
  if (n >= rows) return;
  float* row = f + n * columns;
  const float a = angle[n];
  if (series == RotationSeries::plane) {
    const float half = sinf(0.5f * a);
    row[0] = derivative ? 0.0f : 1.0f;
    row[1] = derivative ? cosf(a) : sinf(a);
    row[2] = derivative ? sinf(a) : 2.0f * half * half;
    return;
  }
  float power = 1.0f;
  if (derivative) row[0] = 0.0f;
  for (int64_t j = derivative ? 1 : 0; j < columns; ++j) {
    row[j] = derivative ? static_cast<float>(j) * power : power;
    power *= a;
  }
}

__global__ void partial_dot_kernel(double* partial, FloatArray a, FloatArray b, int64_t columns,
                                   int64_t blocks) {
  const int64_t n = blockIdx.x / blocks, block = blockIdx.x % blocks;
  const int64_t begin = block * kBlockElements, end = min(begin + kBlockElements, columns);
  float total = 0.0f;
  for (int64_t c = begin + threadIdx.x; c < end; c += kThreads)
    total = fmaf(a.load(n * columns + c), b.load(n * columns + c), total);
  total = block_sum(total);
  if (threadIdx.x == 0) partial[blockIdx.x] = total;
}

__global__ void combine_dot_kernel(float* y, const double* partial, int64_t blocks,
                                   bool accumulate) {
  __shared__ double staged[kThreads];
  const double* of_row = partial + blockIdx.x * blocks;
  double total = accumulate ? y[blockIdx.x] : 0.0;
  for (int64_t begin = 0; begin < blocks; begin += kThreads) {
    const int64_t here = min(blocks - begin, static_cast<int64_t>(kThreads));
    if (threadIdx.x < here) staged[threadIdx.x] = of_row[begin + threadIdx.x];
    __syncthreads();
    if (threadIdx.x == 0) {
      for (int64_t i = 0; i < here; ++i) total += staged[i];
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) y[blockIdx.x] = static_cast<float>(total);
}

FloatArray array_of(const Tensor& t) { return {t.data, t.dtype == DType::bf16}; }

}  // namespace

void CudaBackend::do_bound_forward(Tensor y, Tensor x, Bound bound, double limit) {
  launch(bound_forward_kernel, grid_of(blocks_for(y.elements(), kThreads)), kThreads, 0, stream_,
         array_of(y), array_of(x), bound, static_cast<float>(limit), y.elements());
}

void CudaBackend::do_bound_backward(Tensor dx, Tensor dy, Tensor x, Bound bound, double limit) {
  launch(bound_backward_kernel, grid_of(blocks_for(dx.elements(), kThreads)), kThreads, 0, stream_,
         array_of(dx), array_of(dy), array_of(x), bound, static_cast<float>(limit), dx.elements());
}

void CudaBackend::do_rotation_coefficients(Tensor f, Tensor angle, RotationSeries series,
                                           bool derivative) {
  launch(coefficients_kernel, grid_of(blocks_for(f.size(0), kThreads)), kThreads, 0, stream_,
         f.as<float>(), angle.as<float>(), series, derivative, f.size(0), f.size(1));
}

void CudaBackend::do_dot_rows(Tensor y, Tensor a, Tensor b, bool accumulate) {
  const int64_t N = a.size(0), C = a.size(1), blocks = blocks_for(C, kBlockElements);
  auto* partial = static_cast<double*>(scratch(static_cast<size_t>(N * blocks) * sizeof(double)));
  launch(partial_dot_kernel, grid_of(N * blocks), kThreads, 0, stream_, partial, array_of(a),
         array_of(b), C, blocks);
  launch(combine_dot_kernel, grid_of(N), kThreads, 0, stream_, y.as<float>(), partial, blocks,
         accumulate);
}

}  // namespace strait
