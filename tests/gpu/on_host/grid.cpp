#include "tests/gpu/on_host/grid.h"

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "tests/gpu/on_host/cuda_runtime_api.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
alignas(1024) std::byte cuda_on_host_shared_memory[cuda_on_host::kMostSharedBytes];

namespace cuda_on_host {
namespace {

constexpr size_t kStackBytes = size_t{256} << 10;
constexpr unsigned kMostThreads = 1024;

enum class State { ready, at_warp, at_block, done };

struct Copy {
  void* to;
  const void* from;
  size_t bytes;
};

// A context makes the stack; after that, jumps switch, which save no signal mask and so call no kernel.
struct Fiber {
  jmp_buf place;
  bool begun = false;
  std::unique_ptr<std::byte[]> stack = std::make_unique<std::byte[]>(kStackBytes);
  State state = State::ready;
  unsigned index = 0;
  std::vector<Copy> uncommitted;
  std::deque<std::vector<Copy>> groups;
};

// What a warp's lanes show each other. Two sets in turn, so that one meeting a collective is enough: who writes the set again
// has met everybody since.
struct Warp {
  alignas(16) std::byte slots[2][kWarpLanes * kSlotBytes];
  std::array<unsigned, kWarpLanes> meetings{};  // of each lane
};

struct Machine {
  std::mutex mutex;  // one grid at a time
  jmp_buf scheduler;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Warp> warps;
  Fiber* running = nullptr;
  const std::function<void()>* body = nullptr;
  bool trapped = false;
};

Machine& machine() {
  static Machine m;
  return m;
}

void leave(State state) {
  Machine& m = machine();
  Fiber* const fiber = m.running;
  fiber->state = state;
  if (_setjmp(fiber->place) == 0) _longjmp(m.scheduler, 1);
}

void fiber_main() {
  for (;;) {
    (*machine().body)();
    leave(State::done);
  }
}

void prepare(Fiber& fiber, unsigned index) {
  // A fiber that has not run to its end still has the frames of another kernel on its stack.
  if (fiber.state != State::done) fiber.begun = false;
  fiber.index = index;
  fiber.state = State::ready;
  fiber.uncommitted.clear();
  fiber.groups.clear();
}

void begin(Fiber& fiber) {
  fiber.begun = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = fiber.stack.get();
  context.uc_stack.ss_size = kStackBytes;
  context.uc_link = nullptr;
  makecontext(&context, fiber_main, 0);
  setcontext(&context);
}

void resume(Fiber& fiber) {
  Machine& m = machine();
  m.running = &fiber;
  threadIdx = {fiber.index, 0, 0};
  if (_setjmp(m.scheduler) == 0) {
    if (!fiber.begun) begin(fiber);
    _longjmp(fiber.place, 1);
  }
  m.running = nullptr;
}

// Runs the lanes of a warp until every one waits for the block or is done, or nothing goes on.
void run_warp(unsigned begin, unsigned end) {
  Machine& m = machine();
  for (;;) {
    for (unsigned t = begin; t < end && !m.trapped; ++t)
      if (m.fibers[t]->state == State::ready) resume(*m.fibers[t]);
    for (unsigned t = begin; t < end; ++t)
      if (m.fibers[t]->state != State::at_warp) return;
    if (m.trapped) return;
    for (unsigned t = begin; t < end; ++t) m.fibers[t]->state = State::ready;
  }
}

std::string place(unsigned thread) {
  return "block (" + std::to_string(blockIdx.x) + ", " + std::to_string(blockIdx.y) + ", " +
         std::to_string(blockIdx.z) + "), thread " + std::to_string(thread);
}

bool run_block(unsigned threads, std::string* error) {
  Machine& m = machine();
  for (unsigned t = 0; t < threads; ++t) prepare(*m.fibers[t], t);
  for (Warp& warp : m.warps) warp.meetings.fill(0);
  for (;;) {
    for (unsigned begin = 0; begin < threads; begin += kWarpLanes)
      run_warp(begin, std::min(begin + kWarpLanes, threads));
    if (m.trapped) {
      *error = "a thread trapped in " + place(0) + " or later";
      return false;
    }
    bool waiting = false;
    for (unsigned t = 0; t < threads; ++t) {
      const State state = m.fibers[t]->state;
      if (state == State::at_warp) {
        *error = place(t) + " waits in a collective of its warp that another lane never reaches";
        return false;
      }
      waiting |= state == State::at_block;
    }
    if (!waiting) return true;
    // Threads that have ended are not waited for, as on the hardware.
    for (unsigned t = 0; t < threads; ++t)
      if (m.fibers[t]->state == State::at_block) m.fibers[t]->state = State::ready;
  }
}

}  // namespace

bool run_grid(Extent grid, unsigned threads, size_t shared_bytes, const std::function<void()>& body,
              std::string* error) {
  if (threads == 0 || threads > kMostThreads || grid.x == 0 || grid.x > 0x7fffffffu ||
      grid.y == 0 || grid.y > 65535 || grid.z == 0 || grid.z > 65535 ||
      shared_bytes > kMostSharedBytes) {
    *error = "grid (" + std::to_string(grid.x) + ", " + std::to_string(grid.y) + ", " +
             std::to_string(grid.z) + ") of " + std::to_string(threads) + " threads with " +
             std::to_string(shared_bytes) + " bytes of shared memory is beyond the hardware";
    return false;
  }
  Machine& m = machine();
  const std::lock_guard lock(m.mutex);
  while (m.fibers.size() < threads) m.fibers.push_back(std::make_unique<Fiber>());
  m.warps.resize(std::max<size_t>(m.warps.size(), (threads + kWarpLanes - 1) / kWarpLanes));
  m.body = &body;
  m.trapped = false;
  gridDim = dim3(grid.x, grid.y, grid.z);
  blockDim = dim3(threads);
  for (blockIdx.z = 0; blockIdx.z < grid.z; ++blockIdx.z) {
    for (blockIdx.y = 0; blockIdx.y < grid.y; ++blockIdx.y) {
      for (blockIdx.x = 0; blockIdx.x < grid.x; ++blockIdx.x) {
        // Shared memory holds NaNs until it is written: who reads it too early is found out.
        std::memset(cuda_on_host_shared_memory, 0xff, shared_bytes);
        if (!run_block(threads, error)) return false;
      }
    }
  }
  return true;
}

unsigned lane() { return machine().running->index % kWarpLanes; }

void wait_for_block() { leave(State::at_block); }

void trap() {
  machine().trapped = true;
  for (;;) leave(State::at_block);
}

const std::byte* meet(const void* value, size_t bytes) {
  Machine& m = machine();
  Warp& warp = m.warps[m.running->index / kWarpLanes];
  const unsigned l = lane(), set = warp.meetings[l]++ % 2;
  std::memcpy(warp.slots[set] + l * kSlotBytes, value, bytes);
  leave(State::at_warp);
  return warp.slots[set];
}

void copy_later(void* to, const void* from, size_t bytes) {
  const auto misaligned = [](const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 != 0; };
  if (misaligned(to) || misaligned(from)) trap();
  machine().running->uncommitted.push_back({to, from, bytes});
}

void commit_copies() {
  Fiber& fiber = *machine().running;
  fiber.groups.push_back(std::move(fiber.uncommitted));
  fiber.uncommitted.clear();
}

void wait_for_copies(size_t pending) {
  auto& groups = machine().running->groups;
  for (; groups.size() > pending; groups.pop_front()) {
    for (const Copy& copy : groups.front()) {
      if (copy.from != nullptr)
        std::memcpy(copy.to, copy.from, copy.bytes);
      else
        std::memset(copy.to, 0, copy.bytes);
    }
  }
}

}  // namespace cuda_on_host
