// Memory and time of a backend that works on the host (kernels/backend.h): what Linux says of both.
#include <time.h>

#include <fstream>
#include <limits>
#include <string>

#include "kernels/backend.h"

namespace strait {

uint64_t Backend::available_memory() const {
  std::ifstream file("/proc/meminfo");
  std::string key, unit;
  for (uint64_t kilobytes = 0; file >> key >> kilobytes && std::getline(file, unit);)
    if (key == "MemAvailable:") return kilobytes * 1024;
  return std::numeric_limits<uint64_t>::max();
}

int64_t Backend::mark() {
  timespec now{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

int64_t Backend::nanoseconds_between(int64_t first, int64_t second) {
  return computes() ? second - first : 0;
}

}  // namespace strait
