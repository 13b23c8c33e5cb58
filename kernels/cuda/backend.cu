// Memory, stream, time and creation of the CUDA backend. Device 0 of those that CUDA_VISIBLE_DEVICES
// leaves is the device. A host buffer may be reused as soon as a transfer's call returns; only
// downloads and large uploads wait for the stream.
#include <algorithm>
#include <cmath>
#include <mutex>
#include <new>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/cuda_check.h"
#include "kernels/cuda/matmul_plans.h"
#include "kernels/cuda/upload_buffer.h"

namespace strait {
namespace {

class CudaMemory final : public DeviceMemory {
 public:
  CudaMemory(size_t bytes, cudaStream_t stream) {
    const cudaError_t status = cudaMalloc(&data_, bytes);
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();  // not sticky: a caller that can live with less may go on
      throw std::bad_alloc();
    }
    CUDA_CHECK(status);
    bytes_ = bytes;
    const cudaError_t zeroed = bytes == 0 ? cudaSuccess : cudaMemsetAsync(data_, 0, bytes, stream);
    if (zeroed != cudaSuccess) cudaFree(data_);
    CUDA_CHECK(zeroed);
  }
  ~CudaMemory() override { cudaFree(data_); }
  CudaMemory(const CudaMemory&) = delete;
  CudaMemory& operator=(const CudaMemory&) = delete;
};

struct CudaGraph final : OpSequence {
  ~CudaGraph() override {
    if (graph != nullptr) cudaGraphExecDestroy(graph);
  }
  cudaGraphExec_t graph = nullptr;
};

// The stream of all backends that live.
std::shared_ptr<CUstream_st> shared_stream() {
  static std::mutex mutex;
  static std::weak_ptr<CUstream_st> shared;
  const std::lock_guard lock(mutex);
  if (auto stream = shared.lock()) return stream;
  cudaStream_t made = nullptr;
  CUDA_CHECK(cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking));
  std::shared_ptr<CUstream_st> stream(made, [](cudaStream_t s) { cudaStreamDestroy(s); });
  shared = stream;
  return stream;
}

}  // namespace

CudaBackend::CudaBackend() : stream_owner_(shared_stream()), stream_(stream_owner_.get()) {
  matmul_plans_ = std::make_unique<MatmulPlans>(stream_);
  uploads_ = std::make_unique<UploadBuffer>(stream_);
}

CudaBackend::~CudaBackend() {
  cudaStreamSynchronize(stream_);
  for (cudaEvent_t event : events_) cudaEventDestroy(event);
}

std::unique_ptr<DeviceMemory> CudaBackend::allocate(size_t bytes) {
  auto memory = std::make_unique<CudaMemory>(bytes, stream_);
  synchronize();  // the zeros are there, whichever instance uses the memory
  return memory;
}

void CudaBackend::upload(const Tensor& device, const void* host) {
  STRAIT_CHECK(device.contiguous(), "upload to a strided tensor");
  if (device.bytes() == 0) return;
  if (device.bytes() <= UploadBuffer::kHalfBytes)
    return uploads_->copy(device.data, host, device.bytes());
  CUDA_CHECK(cudaMemcpyAsync(device.data, host, device.bytes(), cudaMemcpyHostToDevice, stream_));
  synchronize();
}

void CudaBackend::download(void* host, const Tensor& device) {
  STRAIT_CHECK(device.contiguous(), "download of a strided tensor");
  if (device.bytes() == 0) return;
  CUDA_CHECK(cudaMemcpyAsync(host, device.data, device.bytes(), cudaMemcpyDeviceToHost, stream_));
  synchronize();
}

void CudaBackend::synchronize() { CUDA_CHECK(cudaStreamSynchronize(stream_)); }

std::string CudaBackend::device_name() const {
  cudaDeviceProp properties{};
  CUDA_CHECK(cudaGetDeviceProperties(&properties, 0));
  return properties.name;
}

uint64_t CudaBackend::available_memory() const {
  size_t available = 0, all = 0;
  CUDA_CHECK(cudaMemGetInfo(&available, &all));
  return available;
}

int64_t CudaBackend::mark() {
  if (marks_ == events_.size()) CUDA_CHECK(cudaEventCreate(&events_.emplace_back()));
  CUDA_CHECK(cudaEventRecord(events_[marks_], stream_));
  return static_cast<int64_t>(marks_++);
}

int64_t CudaBackend::nanoseconds_between(int64_t first, int64_t second) {
  const cudaEvent_t begin = events_.at(static_cast<size_t>(first)),
                    end = events_.at(static_cast<size_t>(second));
  CUDA_CHECK(cudaEventSynchronize(end));
  float milliseconds = 0;
  CUDA_CHECK(cudaEventElapsedTime(&milliseconds, begin, end));
  return std::llround(static_cast<double>(milliseconds) * 1e6);
}

void CudaBackend::do_begin_noting() {
  // Of this thread alone: others may allocate meanwhile.
  CUDA_CHECK(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal));
}

std::unique_ptr<OpSequence> CudaBackend::do_end_noting() {
  cudaGraph_t graph = nullptr;
  CUDA_CHECK(cudaStreamEndCapture(stream_, &graph));
  auto sequence = std::make_unique<CudaGraph>();
  const cudaError_t status = cudaGraphInstantiate(&sequence->graph, graph, 0);
  cudaGraphDestroy(graph);
  CUDA_CHECK(status);
  return sequence;
}

void CudaBackend::do_perform(OpSequence& sequence) {
  CUDA_CHECK(cudaGraphLaunch(dynamic_cast<CudaGraph&>(sequence).graph, stream_));
}

void* CudaBackend::scratch(size_t bytes) {
  const size_t current = scratch_.empty() ? 0 : scratch_.back()->bytes();
  if (bytes > current) {
    // Doubling bounds what the outgrown buffers hold by the size of the current one.
    scratch_.push_back(std::make_unique<CudaMemory>(std::max(bytes, 2 * current), stream_));
  }
  return scratch_.empty() ? nullptr : scratch_.back()->data();
}

std::unique_ptr<Backend> make_cuda_backend(std::string* reason) {
  const auto refuse = [reason](const std::string& text) {
    if (reason != nullptr) *reason = text;
    return nullptr;
  };
  int driver = 0, count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0)
    return refuse("no CUDA device: no NVIDIA driver is installed");
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status != cudaSuccess) {
    cudaGetLastError();  // not sticky
    return refuse(std::string("no CUDA device: ") + cudaGetErrorString(status));
  }
  if (count == 0)
    return refuse("no CUDA device: the driver lists none (CUDA_VISIBLE_DEVICES may hide it)");

  int major = 0, minor = 0;
  CUDA_CHECK(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0));
  CUDA_CHECK(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, 0));
  if (major < 8) {
    return refuse("CUDA device 0 has compute capability " + std::to_string(major) + "." +
                  std::to_string(minor) + ", at least 8.0 is needed");
  }
  return std::make_unique<CudaBackend>();
}

}  // namespace strait
