#include "sim/sweep/file_tools.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include "sim/record/sha256.h"

namespace strait::sweep {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail(const fs::path& path, const char* what) {
  throw std::system_error(errno, std::generic_category(), std::string(what) + path.string());
}

// An open file that closes itself.
class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags, const char* what)
      : number_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {
    if (number_ < 0) fail(path, what);
  }
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }
  int close() { return ::close(std::exchange(number_, -1)); }

 private:
  int number_;
};

}  // namespace

CopiedFile copy_and_hash(const fs::path& from, const fs::path& to) {
  const Descriptor source(from, O_RDONLY, "cannot read ");
  Descriptor target(to, O_WRONLY | O_CREAT | O_TRUNC, "cannot create ");
  Sha256 hash;
  CopiedFile copied;
  std::vector<char> buffer(1 << 20);
  for (;;) {
    const ssize_t got = ::read(source.number(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(from, "cannot read ");
    if (got == 0) break;
    const auto size = static_cast<size_t>(got);
    hash.update({buffer.data(), size});
    copied.size += Bytes{size};
    for (size_t done = 0; done < size;) {
      const ssize_t put = ::write(target.number(), buffer.data() + done, size - done);
      if (put < 0 && errno != EINTR) fail(to, "cannot write ");
      if (put > 0) done += static_cast<size_t>(put);
    }
  }
  if (::fsync(target.number()) != 0 && errno != EINVAL) fail(to, "cannot write ");
  if (target.close() != 0) fail(to, "cannot write ");
  copied.sha256 = hash.hex();
  return copied;
}

nlohmann::ordered_json read_json(const fs::path& path, Bytes most) {
  std::error_code error;
  if (!fs::is_regular_file(path, error) || fs::file_size(path, error) > most.count || error)
    return nullptr;
  std::ifstream file(path, std::ios::binary);
  auto json = nlohmann::ordered_json::parse(file, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) return nullptr;
  return json;
}

}  // namespace strait::sweep
