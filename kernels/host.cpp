// Name, memory and time of a backend that works on the host (kernels/backend.h): what Linux says of them.
#include <time.h>

#include <fstream>
#include <limits>
#include <string>

#include "kernels/backend.h"

namespace strait {

std::string Backend::device_name() const {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "processor";
}

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
