// Where the named corpora come from: Debian packages, downloaded and unpacked into a folder, never
// installed.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace strait {

// Told what is going on, one line at a time; may be empty.
using Notice = std::function<void(const std::string&)>;

struct Package {
  std::string name;
  std::string version;
  std::string sha256;  // of the .deb, as downloaded
  std::filesystem::path
      content;  // what it would have installed, unpacked: content / "usr/share/..."
};

class PackageSource {
 public:
  virtual ~PackageSource() = default;
  // Fetches and unpacks the packages into `folder` (exists, empty), in the order given.
  // Throws std::runtime_error that says what to do.
  virtual std::vector<Package> fetch(const std::vector<std::string>& names,
                                     const std::filesystem::path& folder, const Notice& notice) = 0;
};

// `apt-get download`, which checks each package against the archive's signature, then `dpkg-deb
// -x`. Needs no root. If apt knows no such package or its lists are out of date, fresh lists go
// into `folder`; the system's are not touched.
class AptPackages : public PackageSource {
 public:
  std::vector<Package> fetch(const std::vector<std::string>& names,
                             const std::filesystem::path& folder, const Notice& notice) override;
};

}  // namespace strait
