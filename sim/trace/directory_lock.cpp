// DirectoryLock by flock(2) (sim/trace/directory_lock.h).
#include "sim/trace/directory_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <thread>

namespace strait::sim {

DirectoryLock::DirectoryLock(const std::filesystem::path& directory,
                             std::chrono::milliseconds patience)
    : descriptor_(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
  if (descriptor_ < 0)
    throw std::system_error(errno, std::generic_category(), "cannot open " + directory.string());
  const auto end = std::chrono::steady_clock::now() + patience;
  while (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    if (errno == EINTR) continue;
    if (errno != EWOULDBLOCK) break;  // no locks here
    if (std::chrono::steady_clock::now() >= end) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  held_ = true;
}

DirectoryLock::~DirectoryLock() { ::close(descriptor_); }

}  // namespace strait::sim
