// What kernels/cuda uses of CUDA's run time and of its C++ dialect, for a C++ compiler: device memory is host memory, streams
// are empty, kernels run when they are launched (grid.h).
#pragma once

#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "tests/gpu/on_host/grid.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static  // blocks run in turn on one host thread, so one copy is enough
#define STRAIT_DYNAMIC_SHARED_MEMORY(name) \
  auto* const name = reinterpret_cast<float4*>(cuda_on_host_shared_memory)

struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

// Of the thread that runs.
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;
extern std::byte cuda_on_host_shared_memory[];

// ---- the device's functions ----------------------------------------------------------------------------------------

inline void __syncthreads() { cuda_on_host::wait_for_block(); }
inline void __syncwarp(unsigned = ~0u) { cuda_on_host::all_lanes(0); }
[[noreturn]] inline void __trap() { cuda_on_host::trap(); }

template <typename T>
T __shfl_sync(unsigned, T value, int source) {
  return cuda_on_host::all_lanes(value)[static_cast<unsigned>(source) % 32];
}
template <typename T>
T __shfl_xor_sync(unsigned, T value, int bits) {
  return cuda_on_host::all_lanes(value)[cuda_on_host::lane() ^ static_cast<unsigned>(bits)];
}
template <typename T>
T __shfl_down_sync(unsigned, T value, unsigned delta) {
  const unsigned source = cuda_on_host::lane() + delta;
  return cuda_on_host::all_lanes(value)[source < 32 ? source : cuda_on_host::lane()];
}
inline int __any_sync(unsigned, int predicate) {
  for (const int p : cuda_on_host::all_lanes(predicate))
    if (p != 0) return 1;
  return 0;
}
inline int __all_sync(unsigned, int predicate) { return __any_sync(~0u, predicate == 0) == 0; }
inline int __popc(unsigned bits) { return std::popcount(bits); }
inline unsigned __ballot_sync(unsigned, int predicate) {
  unsigned bits = 0, bit = 1;
  for (const int p : cuda_on_host::all_lanes(predicate)) {
    if (p != 0) bits |= bit;
    bit <<= 1;
  }
  return bits;
}
template <typename T>
T __reduce_min_sync(unsigned, T value) {
  for (const T other : cuda_on_host::all_lanes(value)) value = other < value ? other : value;
  return value;
}
template <typename T>
T __reduce_max_sync(unsigned, T value) {
  for (const T other : cuda_on_host::all_lanes(value)) value = value < other ? other : value;
  return value;
}

template <typename T>
constexpr T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
constexpr T max(T a, T b) {
  return a < b ? b : a;
}
inline double __dsqrt_rn(double x) { return std::sqrt(x); }
inline float __expf(float x) { return expf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float rsqrtf(float x) { return 1.0f / sqrtf(x); }
template <typename T>
T __ldg(const T* p) {
  return *p;
}
inline float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}
inline unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof(x));
  return bits;
}

// ---- the run time --------------------------------------------------------------------------------------------------

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorMemoryAllocation = 2,
  cudaErrorLaunchFailure = 719,
  cudaErrorStreamCaptureUnsupported = 900
};
struct CUstream_st {
  std::vector<std::function<void()>>* captured =
      nullptr;  // what is asked for while a graph is made
};
using cudaStream_t = CUstream_st*;
using cudaEvent_t = int64_t*;  // the host's time in nanoseconds
enum { cudaHostAllocDefault = 0, cudaEventDisableTiming = 2 };
enum cudaMemcpyKind { cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice };
enum { cudaStreamNonBlocking = 1 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize };
enum cudaDeviceAttr { cudaDevAttrComputeCapabilityMajor, cudaDevAttrComputeCapabilityMinor };

namespace cuda_on_host {
// The error of the last launch, as cudaGetLastError() takes it.
struct LastError {
  cudaError_t code = cudaSuccess;
  std::string text;
};
inline thread_local LastError last_error, reported_error;
}  // namespace cuda_on_host

inline cudaError_t cudaGetLastError() {
  cuda_on_host::reported_error = cuda_on_host::last_error;
  cuda_on_host::last_error = {};
  return cuda_on_host::reported_error.code;
}
inline const char* cudaGetErrorName(cudaError_t) { return "emulated"; }
inline const char* cudaGetErrorString(cudaError_t) {
  return cuda_on_host::reported_error.text.c_str();
}
inline cudaError_t cudaDriverGetVersion(int* version) {
  *version = 13000;
  return cudaSuccess;
}
inline cudaError_t cudaGetDeviceCount(int* count) {
  *count = 1;
  return cudaSuccess;
}
inline cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  *value = attribute == cudaDevAttrComputeCapabilityMajor ? 9 : 0;
  return cudaSuccess;
}
struct cudaDeviceProp {
  char name[256] = "";
};
inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int) {
  std::strcpy(properties->name, "CUDA on the host");
  return cudaSuccess;
}
inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t* stream, unsigned) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
inline cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  if (stream->captured != nullptr) return cudaErrorStreamCaptureUnsupported;
  return cudaGetLastError();
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) {
  delete stream;
  return cudaSuccess;
}
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned) {
  *event = new int64_t(0);
  return cudaSuccess;
}
inline cudaError_t cudaEventCreate(cudaEvent_t* event) {
  return cudaEventCreateWithFlags(event, 0);
}
inline cudaError_t cudaEventDestroy(cudaEvent_t event) {
  delete event;
  return cudaSuccess;
}
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  *event = std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  return cudaSuccess;
}
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
inline cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t begin, cudaEvent_t end) {
  *milliseconds = static_cast<float>(*end - *begin) * 1e-6f;
  return cudaSuccess;
}
template <typename T>
cudaError_t cudaHostAlloc(T** pointer, size_t bytes, unsigned) {
  *pointer = static_cast<T*>(std::malloc(bytes));
  return *pointer != nullptr ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFreeHost(void* pointer) {
  std::free(pointer);
  return cudaSuccess;
}
template <typename T>
cudaError_t cudaMalloc(T** pointer, size_t bytes) {
  *pointer = static_cast<T*>(std::aligned_alloc(256, (bytes + 255) / 256 * 256));
  return *pointer != nullptr || bytes == 0 ? cudaSuccess : cudaErrorMemoryAllocation;
}
inline cudaError_t cudaFree(void* pointer) {
  std::free(pointer);
  return cudaSuccess;
}
inline cudaError_t cudaMemGetInfo(size_t* available, size_t* all) {
  *available = *all = size_t{80} << 30;
  return cudaSuccess;
}

namespace cuda_on_host {
// Does `work`, now or when the graph that is being made is launched.
template <typename Work>
void submit(cudaStream_t stream, Work work) {
  if (stream != nullptr && stream->captured != nullptr)
    stream->captured->emplace_back(std::move(work));
  else
    work();
}
}  // namespace cuda_on_host

inline cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  cuda_on_host::submit(stream, [=] { std::memset(to, value, bytes); });
  return cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind,
                                   cudaStream_t stream) {
  if (kind != cudaMemcpyDeviceToDevice && stream->captured != nullptr)
    return cudaErrorStreamCaptureUnsupported;
  cuda_on_host::submit(stream, [=] { std::memcpy(to, from, bytes); });
  return cudaSuccess;
}

using cudaGraph_t = std::vector<std::function<void()>>*;
using cudaGraphExec_t = std::vector<std::function<void()>>*;
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal };
inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->captured = new std::vector<std::function<void()>>;
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* graph) {
  *graph = std::exchange(stream->captured, nullptr);
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t* executable, cudaGraph_t graph,
                                        unsigned long long) {
  *executable = new std::vector<std::function<void()>>(*graph);
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete graph;
  return cudaSuccess;
}
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t executable) {
  delete executable;
  return cudaSuccess;
}
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t executable, cudaStream_t) {
  for (const auto& work : *executable) work();
  return cudaSuccess;
}
inline cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }

struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes = 0;
  cudaStream_t stream = nullptr;
  void* attrs = nullptr;
  unsigned numAttrs = 0;
};

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               Arguments&&... arguments) {
  const std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
  cuda_on_host::submit(config->stream, [=, grid = config->gridDim, threads = config->blockDim.x,
                                        shared = config->dynamicSmemBytes] {
    std::string error;
    if (!cuda_on_host::run_grid(
            {grid.x, grid.y, grid.z}, threads, shared, [&] { std::apply(kernel, values); }, &error))
      cuda_on_host::last_error = {cudaErrorLaunchFailure, error};
  });
  return cudaSuccess;
}
