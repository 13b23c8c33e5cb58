// RunCache (sim/sweep/cache.h). Writers hold a lock on the cache's directory, so that whatever
// temporary folder one finds was left by a process that is no more; readers need none.
#include "sim/sweep/cache.h"

#include <elf.h>
#include <fmt/format.h>
#include <link.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <system_error>
#include <tuple>

#include "sim/record/sha256.h"
#include "sim/sweep/file_tools.h"
#include "sim/trace/directory_lock.h"
#include "sim/trace/output_file.h"
#include "strait_version.h"

namespace strait::sweep {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

constexpr const char* kManifest = "manifest.json";
constexpr const char* kRecord = "record/log.strait";
constexpr std::chrono::seconds kPatience{
    600};  // for another writer, who may copy large checkpoints

struct ManifestFile {
  std::string path;  // relative
  std::string sha256;
  uint64_t size = 0;
};

struct Manifest {
  CacheEntry entry;
  std::vector<ManifestFile> files;  // the record last
};

bool is_key(const std::string& text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// A path of a manifest must stay inside its entry.
bool is_inside(const std::string& path) {
  const fs::path p(path);
  if (path.empty() || p.is_absolute()) return false;
  return std::none_of(p.begin(), p.end(), [](const fs::path& part) { return part == ".."; });
}

int64_t now() { return static_cast<int64_t>(std::time(nullptr)); }

// Seconds since 1970 of the last change; 0 where the file is gone.
int64_t changed_at(const fs::path& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? static_cast<int64_t>(info.st_mtim.tv_sec) : 0;
}

Json identity_json(const TrainingIdentity& i) {
  return {{"record_hash", i.record_hash},
          {"data_hash", i.data_hash},
          {"backend", i.backend},
          {"device", i.device},
          {"program", i.program}};
}

Json manifest_json(const std::string& key, const TrainingDescription& d,
                   const std::vector<ManifestFile>& files) {
  Json rows = Json::array();
  for (const ManifestFile& file : files)
    rows.push_back({{"path", file.path}, {"sha256", file.sha256}, {"size", file.size}});
  return {{"key", key},
          {"name", d.name},
          {"identity", identity_json(d.identity)},
          {"host_seconds", d.host_seconds},
          {"stored", now()},
          {"files", std::move(rows)},
          {"scenario", d.scenario}};
}

// Throws Json::exception for what is no manifest.
Manifest parse_manifest(const Json& json) {
  Manifest manifest;
  CacheEntry& entry = manifest.entry;
  entry.key = json.at("key").get<std::string>();
  TrainingDescription& d = entry.description;
  d.name = json.at("name").get<std::string>();
  const Json& identity = json.at("identity");
  d.identity = {identity.at("record_hash").get<std::string>(),
                identity.at("data_hash").get<std::string>(),
                identity.at("backend").get<std::string>(), identity.at("device").get<std::string>(),
                identity.at("program").get<std::string>()};
  d.scenario = json.at("scenario");
  d.host_seconds = json.at("host_seconds").get<double>();
  entry.stored = json.at("stored").get<int64_t>();
  for (const Json& row : json.at("files")) {
    manifest.files.push_back({row.at("path").get<std::string>(),
                              row.at("sha256").get<std::string>(), row.at("size").get<uint64_t>()});
    entry.size += Bytes{manifest.files.back().size};
  }
  return manifest;
}

// nullopt where the folder holds no manifest that is sound and its own.
std::optional<Manifest> read_manifest(const fs::path& folder) {
  try {
    Manifest manifest = parse_manifest(read_json(folder / kManifest));
    const auto& files = manifest.files;
    if (manifest.entry.key != folder.filename() || files.empty() || files.back().path != kRecord ||
        !std::all_of(files.begin(), files.end(), [](const auto& f) { return is_inside(f.path); }))
      return std::nullopt;
    manifest.entry.last_taken = std::max(manifest.entry.stored, changed_at(folder / kManifest));
    return manifest;
  } catch (const Json::exception&) {
    return std::nullopt;
  }
}

// A folder that is no longer needed disappears from its name at once.
void discard(const fs::path& folder) {
  const fs::path aside = folder.parent_path() / fmt::format(".{}.gone", folder.filename().string());
  std::error_code ignored;
  fs::remove_all(aside, ignored);
  fs::rename(folder, aside, ignored);
  fs::remove_all(aside, ignored);
}

// What processes that were killed have left. Only under the lock.
void remove_leftovers(const fs::path& root) {
  std::error_code ignored;
  for (const auto& item : fs::directory_iterator(root, ignored)) {
    const std::string name = item.path().filename().string();
    if (name.starts_with(".")) fs::remove_all(item.path(), ignored);
  }
}

Bytes size_of(const fs::path& folder) {
  Bytes sum;
  std::error_code error;
  for (auto it = fs::recursive_directory_iterator(folder, error);
       !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    const uint64_t size = it->is_regular_file(error) ? it->file_size(error) : 0;
    if (!error) sum += Bytes{size};
  }
  return sum;
}

// Held until the end of its scope.
class Lock {
 public:
  explicit Lock(const fs::path& root) try : lock_(root, kPatience) {
    if (!lock_.held())
      throw CacheError(fmt::format("{}: another process has held the cache for {} s", root.string(),
                                   kPatience.count()));
  } catch (const std::system_error& error) {
    throw CacheError(error.what());
  }

 private:
  sim::DirectoryLock lock_;
};

// The files of a training that an entry holds, relative to `run`; the record last.
std::vector<std::string> files_of(const fs::path& run) {
  std::vector<std::string> files;
  if (fs::is_directory(run / "checkpoints"))
    for (const auto& item : fs::recursive_directory_iterator(run / "checkpoints"))
      if (item.is_regular_file()) files.push_back(fs::relative(item.path(), run).string());
  std::sort(files.begin(), files.end());
  files.emplace_back(kRecord);
  return files;
}

// False where a file is missing or is not what the manifest says.
bool copy_verified(const std::vector<ManifestFile>& files, const fs::path& folder,
                   const fs::path& staging) {
  for (const ManifestFile& file : files) {
    if (!fs::is_regular_file(folder / file.path)) return false;
    fs::create_directories((staging / file.path).parent_path());
    if (copy_and_hash(folder / file.path, staging / file.path).sha256 != file.sha256) return false;
  }
  return true;
}

// A run directory into which a training is put: what is not yet in place waits there under names of
// its own.
class Destination {
 public:
  explicit Destination(const fs::path& run)
      : run_(run), staging_(run / ".cache.part"), record_(run / (std::string(kRecord) + ".part")) {}

  const fs::path& staging() const { return staging_; }
  void clear() const {
    std::error_code ignored;
    fs::remove_all(staging_, ignored);
    fs::remove(record_, ignored);
  }
  // The record last: where it is, everything is, and nothing else.
  void put_in_place() const {
    fs::remove_all(run_ / "checkpoints");
    if (fs::is_directory(staging_ / "checkpoints"))
      fs::rename(staging_ / "checkpoints", run_ / "checkpoints");
    fs::create_directories(record_.parent_path());
    fs::rename(staging_ / kRecord, record_);
    fs::remove_all(staging_);
    fs::rename(record_, run_ / kRecord);
  }

 private:
  fs::path run_, staging_, record_;
};

// The linker's build ids, in hexadecimal.
struct BuildIds {
  std::string program, libraries;
};

// Called for each loaded object; the program's has no name.
int take_build_id(dl_phdr_info* info, size_t, void* result) {
  const std::string_view object = info->dlpi_name == nullptr ? "" : info->dlpi_name;
  if (object.starts_with("linux-vdso")) return 0;  // the kernel's
  auto& ids = *static_cast<BuildIds*>(result);
  std::string& hex = object.empty() ? ids.program : ids.libraries;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const auto& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const auto* at = reinterpret_cast<const char*>(info->dlpi_addr + segment.p_vaddr);
    const char* end = at + segment.p_memsz;
    const auto padded = [](size_t n) { return (n + 3) & ~size_t{3}; };
    while (at + sizeof(ElfW(Nhdr)) <= end) {
      const auto* note = reinterpret_cast<const ElfW(Nhdr)*>(at);
      const char* name = at + sizeof *note;
      const char* bytes = name + padded(note->n_namesz);
      if (note->n_type == NT_GNU_BUILD_ID && std::string_view(name, 3) == "GNU") {
        for (size_t b = 0; b < note->n_descsz; ++b)
          hex += fmt::format("{:02x}", static_cast<unsigned char>(bytes[b]));
        return 0;
      }
      at = bytes + padded(note->n_descsz);
    }
  }
  return 0;
}

// Of what is loaded at the start of the program; what it opens later depends on what it does.
const BuildIds ids_at_start = [] {
  BuildIds ids;
  dl_iterate_phdr(take_build_id, &ids);
  return ids;
}();

std::string hash_of_program() {
  std::ifstream file("/proc/self/exe", std::ios::binary);
  Sha256 hash;
  std::array<char, 1 << 16> buffer{};
  do {
    file.read(buffer.data(), buffer.size());
    hash.update({buffer.data(), static_cast<size_t>(file.gcount())});
  } while (file);
  return hash.hex();
}

}  // namespace

std::string training_key(const TrainingIdentity& identity) {
  return sha256_hex("strait training 1\n" + identity_json(identity).dump());
}

std::string program_identity() {
  static const std::string identity = [] {
    std::string build = ids_at_start.program.empty() ? hash_of_program() : ids_at_start.program;
    if (!ids_at_start.libraries.empty())
      build += "-" + sha256_hex(ids_at_start.libraries).substr(0, 16);
    return "strait " STRAIT_VERSION " (" STRAIT_GIT_COMMIT ") " + build;
  }();
  return identity;
}

fs::path RunCache::default_root() {
  const auto environment = [](const char* name) -> fs::path {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  if (const auto cache = environment("STRAIT_CACHE"); !cache.empty()) return cache / "trainings";
  if (const auto cache = environment("XDG_CACHE_HOME"); !cache.empty())
    return cache / "strait" / "trainings";
  if (const auto home = environment("HOME"); !home.empty())
    return home / ".cache" / "strait" / "trainings";
  throw CacheError("no place for the cache: none of STRAIT_CACHE, XDG_CACHE_HOME, HOME is set");
}

bool RunCache::has(const std::string& key) const {
  return is_key(key) && read_manifest(root_ / key).has_value();
}

bool RunCache::fetch(const std::string& key, const fs::path& run_directory) {
  const fs::path folder = root_ / key;
  const Destination destination(run_directory);
  std::error_code ignored;
  destination.clear();  // of a process that was killed
  if (!is_key(key) || !fs::is_directory(folder, ignored)) return false;
  bool sound = false;
  try {
    const std::optional<Manifest> manifest = read_manifest(folder);
    sound = manifest && copy_verified(manifest->files, folder, destination.staging());
    if (sound) destination.put_in_place();
  } catch (const std::system_error& error) {
    destination.clear();
    // Another process may just have pruned the entry: then it is simply not there.
    if (!fs::exists(folder / kManifest, ignored)) return false;
    throw CacheError(fmt::format("cannot take a training from the cache: {}", error.what()));
  }
  destination.clear();
  if (sound) {
    fs::last_write_time(folder / kManifest, fs::file_time_type::clock::now(), ignored);
  } else if (fs::is_directory(folder, ignored)) {  // not just pruned by another process
    const Lock held(root_);
    discard(folder);
  }
  return sound;
}

void RunCache::store(const std::string& key, const fs::path& run_directory,
                     const TrainingDescription& description) {
  if (!is_key(key)) throw CacheError("the cache's keys are 64 hexadecimal digits, found: " + key);
  const fs::path folder = root_ / key, part = root_ / fmt::format(".{}.part", key);
  try {
    fs::create_directories(root_);
    const Lock held(root_);
    remove_leftovers(root_);
    if (read_manifest(folder)) return;
    discard(folder);
    std::vector<ManifestFile> files;
    for (const std::string& file : files_of(run_directory)) {
      fs::create_directories((part / file).parent_path());
      const CopiedFile copied = copy_and_hash(run_directory / file, part / file);
      files.push_back({file, copied.sha256, copied.size.count});
    }
    sim::write_whole_file(
        (part / kManifest).string(),
        manifest_json(key, description, files).dump(1, ' ', false, Json::error_handler_t::replace) +
            "\n");
    fs::rename(part, folder);
  } catch (const std::system_error& error) {
    std::error_code ignored;
    fs::remove_all(part, ignored);
    throw CacheError(fmt::format("cannot put a training into the cache: {}", error.what()));
  } catch (const sim::RunFileError& error) {
    std::error_code ignored;
    fs::remove_all(part, ignored);
    throw CacheError(fmt::format("cannot put a training into the cache: {}", error.what()));
  }
}

std::vector<CacheEntry> RunCache::list() const {
  std::vector<CacheEntry> entries;
  std::error_code error;
  for (const auto& item : fs::directory_iterator(root_, error))
    if (is_key(item.path().filename().string()))
      if (auto manifest = read_manifest(item.path())) entries.push_back(std::move(manifest->entry));
  std::sort(entries.begin(), entries.end(), [](const CacheEntry& a, const CacheEntry& b) {
    return std::tie(b.last_taken, a.key) < std::tie(a.last_taken, b.key);
  });
  return entries;
}

RunCache::Pruned RunCache::prune(const PruneRule& rule) {
  Pruned pruned;
  if (!fs::is_directory(root_)) return pruned;
  try {
    const Lock held(root_);
    remove_leftovers(root_);
    const auto remove = [&](const fs::path& folder) {
      pruned.size += size_of(folder);
      ++pruned.entries;
      discard(folder);
    };
    Bytes kept;
    for (const CacheEntry& entry : list()) {  // latest first
      const bool old = rule.not_taken_since && entry.last_taken < *rule.not_taken_since;
      const bool large = rule.keep_size && kept + entry.size > *rule.keep_size;
      if (rule.all || old || large)
        remove(root_ / entry.key);
      else
        kept += entry.size;
    }
    for (const auto& item : fs::directory_iterator(root_))
      if (is_key(item.path().filename().string()) && !read_manifest(item.path()))
        remove(item.path());
  } catch (const std::system_error& error) {
    throw CacheError(fmt::format("cannot prune the cache: {}", error.what()));
  }
  return pruned;
}

}  // namespace strait::sweep
