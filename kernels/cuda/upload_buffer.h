// Host memory that the device reads by itself, so that an upload need not wait for what is queued
// before it. Two halves in turn: a half is written again when the copies out of it are done.
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstring>

#include "kernels/cuda/cuda_check.h"

namespace strait {

class UploadBuffer {
 public:
  // More than two microbatches of token ids and targets at 32 x 8192.
  static constexpr size_t kHalfBytes = size_t{4} << 20;

  explicit UploadBuffer(cudaStream_t stream) : stream_(stream) {
    CUDA_CHECK(cudaHostAlloc(&memory_, 2 * kHalfBytes, cudaHostAllocDefault));
    for (cudaEvent_t& event : copied_)
      CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  }
  ~UploadBuffer() {
    for (cudaEvent_t event : copied_) cudaEventDestroy(event);
    cudaFreeHost(memory_);
  }
  UploadBuffer(const UploadBuffer&) = delete;
  UploadBuffer& operator=(const UploadBuffer&) = delete;

  // Queues the copy; `host` may be reused at once. `bytes` is at most kHalfBytes.
  void copy(void* device, const void* host, size_t bytes) {
    if (used_ + bytes > kHalfBytes) {
      CUDA_CHECK(cudaEventRecord(copied_[half_], stream_));
      half_ ^= 1;
      used_ = 0;
      CUDA_CHECK(cudaEventSynchronize(copied_[half_]));
    }
    auto* place = static_cast<std::byte*>(memory_) + half_ * kHalfBytes + used_;
    std::memcpy(place, host, bytes);
    CUDA_CHECK(cudaMemcpyAsync(device, place, bytes, cudaMemcpyHostToDevice, stream_));
    used_ += (bytes + 255) / 256 * 256;
  }

 private:
  cudaStream_t stream_;
  void* memory_ = nullptr;
  cudaEvent_t copied_[2] = {};
  size_t half_ = 0, used_ = 0;
};

}  // namespace strait
