// Memory of the host (kernels/host_memory.h), and the checks of operands that only the host can
// read.
#include "kernels/host_memory.h"

#include <fmt/format.h>

#include <cstring>
#include <limits>
#include <new>

namespace strait {
namespace {
constexpr std::align_val_t kAlignment{256};
}

HostMemory::HostMemory(size_t bytes) {
  if (bytes > std::numeric_limits<size_t>::max() / 2) throw std::bad_alloc();
  data_ = ::operator new(bytes, kAlignment);
  bytes_ = bytes;
  std::memset(data_, 0, bytes);
}

HostMemory::~HostMemory() { ::operator delete(data_, kAlignment); }

void HostBackend::upload(const Tensor& device, const void* host) {
  STRAIT_CHECK(device.contiguous(), "upload to a strided tensor " + to_string(device.shape));
  std::memcpy(device.data, host, device.bytes());
}

void HostBackend::download(void* host, const Tensor& device) {
  STRAIT_CHECK(device.contiguous(), "download of a strided tensor " + to_string(device.shape));
  std::memcpy(host, device.data, device.bytes());
}

void check_ids(Op op, const char* operand, const Tensor& ids, int64_t low, int64_t high) {
  const int32_t* id = ids.as<const int32_t>();
  for (int64_t n = 0; n < ids.elements(); ++n)
    if (id[n] < low || id[n] >= high)
      throw std::logic_error(fmt::format("{}: {}[{}] is {}, but must lie in [{}, {})", name_of(op),
                                         operand, n, id[n], low, high));
}

}  // namespace strait
