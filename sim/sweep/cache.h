// The cache of finished trainings, shared by runs and sweeps: each entry is a folder named by the
// hash of all that determines the training, with the record, its checkpoints, and a manifest that
// holds the hash of every file. Safe for any number of processes: entries appear by one rename, are
// verified whenever they are taken, and a damaged one is removed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "sim/record/units.h"

namespace strait::sweep {

class CacheError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// All that a training's result depends on.
struct TrainingIdentity {
  std::string record_hash;  // scenario::record_hash() of the resolved scenario
  std::string data_hash;    // of tokens and tokenizer; "" on the meta backend
  std::string backend;      // "cpu", "cuda", "meta"
  std::string device;       // what computed: "NVIDIA H200", or the processor and "avx2"
  std::string program;      // program_identity()
};

// The name of a training's entry: SHA-256 (hex) of the identity's canonical JSON.
std::string training_key(const TrainingIdentity& identity);

// "strait VERSION (COMMIT) BUILD-LIBRARIES": BUILD is the linker's build id of the running program, or
// the SHA-256 of its file where it has none, LIBRARIES a hash of its libraries' build ids, so that
// neither a rebuilt program nor one with an upgraded library takes old results.
std::string program_identity();

// What an entry's manifest says beside the files, for people and for the planner of sweeps.
struct TrainingDescription {
  std::string name;  // the scenario's
  TrainingIdentity identity;
  nlohmann::ordered_json scenario;  // resolved
  double host_seconds = 0;          // that the training took
};

struct CacheEntry {
  std::string key;
  TrainingDescription description;
  Bytes size;              // of its files
  int64_t stored = 0;      // seconds since 1970
  int64_t last_taken = 0;  // the same; when it was stored, if never taken
};

class RunCache {
 public:
  // `root` need not exist; store() makes it.
  explicit RunCache(std::filesystem::path root) : root_(std::move(root)) {}

  // $STRAIT_CACHE/trainings, else $XDG_CACHE_HOME/strait/trainings, else
  // ~/.cache/strait/trainings. Throws CacheError where none of the variables is set.
  static std::filesystem::path default_root();

  const std::filesystem::path& root() const { return root_; }

  // Whether there is an entry; its files are not looked at.
  bool has(const std::string& key) const;

  // Copies the entry's files into `run_directory`, which exists: record/log.strait and
  // checkpoints/, replacing those that are there, also by none. All are verified before they are put
  // in place by rename, the record last. False, with nothing left behind, where there is no such entry or it is
  // damaged; a damaged one is removed. Throws CacheError where `run_directory` cannot be written.
  bool fetch(const std::string& key, const std::filesystem::path& run_directory);

  // Copies record/log.strait and checkpoints/, if there are any, of a finished training into the
  // cache. Does nothing where the entry is there already. Throws CacheError (a full disk, no
  // rights), leaving nothing behind; the run is none the worse for it.
  void store(const std::string& key, const std::filesystem::path& run_directory,
             const TrainingDescription& description);

  // By the time they were taken last, latest first. Entries whose manifest cannot be read are left
  // out; the files themselves are not verified. Empty where there is no cache.
  std::vector<CacheEntry> list() const;

  // Which entries go: all; or those not taken since `not_taken_since`; then, beyond `keep_size`,
  // those that were taken longest ago. Unreadable entries always go.
  struct PruneRule {
    bool all = false;
    std::optional<int64_t> not_taken_since;  // seconds since 1970
    std::optional<Bytes> keep_size;
  };
  struct Pruned {
    int entries = 0;
    Bytes size;
  };
  Pruned prune(const PruneRule& rule);

 private:
  std::filesystem::path root_;
};

}  // namespace strait::sweep
