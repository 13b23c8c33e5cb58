// The inverse of a Cholesky factor, in f64: gram = R^T R by one block, row by row of R, each row taken off all below it; then a thread a
// column of the inverse, from the bottom up.
//
// Shapes: gram, inverse (r,r) f32; r is the rank of a factorisation, tens to hundreds. Bytes: gram and inverse once, R and its inverse in
// scratch, 16 r^2. Determinism: every sum by one thread, in ascending order.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 256, kColumnThreads = 64;

__global__ void factor_kernel(double* R, const float* gram, int64_t r) {
  for (int64_t i = threadIdx.x; i < r * r; i += kThreads) R[i] = gram[i];
  for (int64_t j = 0; j < r; ++j) {
    __syncthreads();
    const double pivot = R[j * r + j];
    const double root = pivot > 1e-6 * gram[j * r + j] ? sqrt(pivot) : 0.0,
                 factor = root > 0 ? 1 / root : 0.0;
    __syncthreads();  // all have read the pivot
    for (int64_t l = j + threadIdx.x; l < r; l += kThreads)
      R[j * r + l] = l == j ? root : R[j * r + l] * factor;
    __syncthreads();
    const int64_t rest = r - j - 1;
    for (int64_t i = threadIdx.x; i < rest * rest; i += kThreads) {
      const int64_t row = j + 1 + i / rest, column = j + 1 + i % rest;
      if (column >= row) R[row * r + column] -= R[j * r + row] * R[j * r + column];
    }
  }
}

__global__ void invert_kernel(float* inverse, double* W, const double* R, int64_t r) {
  const int64_t i = global_index();
  if (i >= r) return;
  for (int64_t j = r - 1; j >= 0; --j) {
    double w = j == i ? 1.0 : 0.0;
    for (int64_t k = j + 1; k <= i; ++k) w -= R[j * r + k] * W[k * r + i];
    const bool lives = j <= i && R[j * r + j] > 0;
    w = lives ? w / R[j * r + j] : 0.0;
    W[j * r + i] = w;
    inverse[j * r + i] = static_cast<float>(w);
  }
}

}  // namespace

void CudaBackend::do_inverse_cholesky(Tensor inverse, Tensor gram) {
  const int64_t r = gram.size(0);
  auto* R = static_cast<double*>(scratch(static_cast<size_t>(2 * r * r) * sizeof(double)));
  launch(factor_kernel, grid_of(1), kThreads, 0, stream_, R, gram.as<float>(), r);
  launch(invert_kernel, grid_of(blocks_for(r, kColumnThreads)), kColumnThreads, 0, stream_,
         inverse.as<float>(), R + r * r, R, r);
}

}  // namespace strait
