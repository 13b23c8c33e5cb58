// Runs the grid of a CUDA kernel on the host: one fiber a CUDA thread, blocks one after another, warps in turn. A fiber
// leaves the processor only where it meets others: at a collective of its warp or a barrier of its block.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <string>
#include <type_traits>

namespace cuda_on_host {

constexpr int kWarpLanes = 32;
constexpr size_t kMostSharedBytes = 227 * 1024;  // of one block, compute capability 9.0

struct Extent {
  unsigned x = 1, y = 1, z = 1;
};

// Runs `body` as every thread of the grid. False and a text in `error` where the launch breaks a limit of the hardware, a
// thread traps, or threads wait for others that never come.
bool run_grid(Extent grid, unsigned threads, size_t shared_bytes, const std::function<void()>& body,
              std::string* error);

// Of the running fiber.
unsigned lane();
void wait_for_block();
[[noreturn]] void trap();

// Room for what the lanes of the running warp show each other, one slot of 128 bytes a lane, filled
// with this lane's `bytes`; returns when every lane has arrived. Valid until the collective after the next.
const std::byte* meet(const void* value, size_t bytes);
constexpr size_t kSlotBytes = 128;

// What every lane of the warp passed.
template <typename T>
std::array<T, kWarpLanes> all_lanes(const T& value) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= kSlotBytes);
  const std::byte* slots = meet(&value, sizeof(T));
  std::array<T, kWarpLanes> all;
  for (int l = 0; l < kWarpLanes; ++l) std::memcpy(&all[l], slots + l * kSlotBytes, sizeof(T));
  return all;
}

// Asynchronous copies of the running thread (null: zeros), in groups: what is committed lands when all but the `pending` latest
// groups are waited for. A copy must name 16-byte aligned memory.
void copy_later(void* to, const void* from, size_t bytes);
void commit_copies();
void wait_for_copies(size_t pending);

}  // namespace cuda_on_host
