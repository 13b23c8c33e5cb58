// Zeroed, 256-byte aligned memory of the host: what the cpu and the reference backend allocate.
#pragma once

#include "kernels/backend.h"

namespace strait {

class HostMemory final : public DeviceMemory {
 public:
  explicit HostMemory(size_t bytes);  // throws std::bad_alloc
  ~HostMemory() override;
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;
};

// A backend whose device memory is the host's.
class HostBackend : public Backend {
 public:
  bool host_memory() const override { return true; }
  std::unique_ptr<DeviceMemory> allocate(size_t bytes) override {
    return std::make_unique<HostMemory>(bytes);
  }
  void upload(const Tensor& device, const void* host) override;
  void download(void* host, const Tensor& device) override;
  void synchronize() override {}
};

// Every id in [low, high), or std::logic_error naming the op, the operand and the first one that is
// not.
void check_ids(Op op, const char* operand, const Tensor& ids, int64_t low, int64_t high);

}  // namespace strait
