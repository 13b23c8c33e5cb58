// What ranks tell each other of their gradients, and the clip factor from it, so that the host waits for neither.
//
// Shapes: a few doubles, one thread each; the factor (1) f32. Determinism: element by element; square root and division are
// rounded correctly, so the factor has the bits that the host would compute.
#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/device.cuh"

namespace strait {
namespace {

constexpr int kThreads = 32;

__global__ void add_statistics_kernel(double* y, const double* a, const double* b, int64_t n) {
  const int64_t i = global_index();
  if (i < n) y[i] = b == nullptr ? a[i] : a[i] + b[i];
}

__global__ void clip_factor_kernel(float* factor, const double* sum_squares, double max_norm) {
  const double norm = sqrt(*sum_squares);
  *factor = static_cast<float>(norm > max_norm ? max_norm / norm : 1.0);
}

}  // namespace

void CudaBackend::do_add_statistics(Tensor y, Tensor a, Tensor b) {
  launch(add_statistics_kernel, grid_of(blocks_for(y.elements(), kThreads)), kThreads, 0, stream_,
         y.as<double>(), a.as<double>(), b.defined() ? b.as<double>() : nullptr, y.elements());
}

void CudaBackend::do_clip_factor(Tensor factor, Tensor sum_squares, double max_norm) {
  launch(clip_factor_kernel, grid_of(1), 1, 0, stream_, factor.as<float>(),
         sum_squares.as<double>(), max_norm);
}

}  // namespace strait
