// Work shared between OpenMP threads, and their scratch memory. Included before any target pragma:
// plain code. Chunks are fixed by shapes, never by the number of threads, and every result belongs
// to one chunk; so a result cannot depend on how many threads there are. One thread opens no
// parallel region at all.
#pragma once

#include <omp.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/host_memory.h"

namespace strait::cpu {

// body(chunk, thread) for every chunk in [0, chunks), thread in [0, threads). body must not throw.
template <typename Body>
void parallel_for(int threads, int64_t chunks, const Body& body) {
  if (threads == 1 || chunks == 1) {
    for (int64_t chunk = 0; chunk < chunks; ++chunk) body(chunk, 0);
    return;
  }
#pragma omp parallel num_threads(threads)
  {
    const int thread = omp_get_thread_num();
#pragma omp for schedule(static)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) body(chunk, thread);
  }
}

// Rows per chunk of work, so that a chunk has about 16 thousand elements whatever the number of
// threads.
inline constexpr int64_t kChunkElements = 16384;
inline int64_t rows_per_chunk(int64_t columns) {
  return columns >= kChunkElements ? 1 : kChunkElements / columns;
}

// The rows or elements of `total` that fall to `chunk`, with `size` in each chunk but the last.
struct Range {
  int64_t begin = 0, end = 0;
};
inline int64_t chunks_of(int64_t total, int64_t size) { return (total + size - 1) / size; }
inline Range chunk_range(int64_t chunk, int64_t size, int64_t total) {
  const int64_t begin = chunk * size;
  return {begin, begin + size < total ? begin + size : total};
}

// Grow-only memory of one instance, one region per thread; a shape's need is fixed, so it stops
// growing after the first step.
class Scratch {
 public:
  explicit Scratch(int threads) : regions_(static_cast<size_t>(threads)) {}
  // Makes room for `bytes` per thread; call it before a parallel region.
  void reserve(size_t bytes) {
    for (auto& region : regions_)
      if (region == nullptr || region->bytes() < bytes)
        region = std::make_unique<HostMemory>(bytes);
  }
  template <typename T>
  T* of_thread(int thread) const {
    return static_cast<T*>(regions_[static_cast<size_t>(thread)]->data());
  }

 private:
  std::vector<std::unique_ptr<HostMemory>> regions_;
};

}  // namespace strait::cpu
