// A checkpoint on disk (design, section 5.3): step_00000100/ with model.safetensors (fp32 master parameters and the codecs' states
// under their global names), optimizer.safetensors (moments, "m.NAME" and "v.NAME", where there are any) and manifest.json, which says what it is and holds the
// hash of both. The folder appears whole, by a rename, or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "engine/checkpoint/safetensors.h"
#include "engine/checkpoint/snapshot.h"
#include "engine/nn/model_shape.h"

namespace strait {

// The folder or file, and what is wrong with it.
class CheckpointError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// What manifest.json says beside the state itself.
struct CheckpointManifest {
  int64_t step = 0;
  uint64_t tokens = 0;
  bool interrupted = false;   // written because the run was stopped, not because its time had come
  uint64_t record_bytes = 0;  // length of record/log.strait at this step
  double host_seconds = 0;    // that the training had taken
  std::string record_hash;    // of what determines the record
  std::string data_hash;
  std::string producer;
  std::string method;  // of the pipeline boundaries
  ModelConstraint constraint;
  std::string boundaries;
  ModelShape shape;
};

struct Checkpoint {
  std::filesystem::path folder;
  CheckpointManifest manifest;
};

// Writes FOLDER/step_XXXXXXXX from a snapshot with moments and returns its path; one that is there already is replaced, and later
// ones go: the training has gone back behind them, because they are damaged.
// Throws CheckpointError, SafetensorsError or std::runtime_error (full disk); then nothing new is there.
std::filesystem::path write_checkpoint(const std::filesystem::path& folder,
                                       const Snapshot& snapshot,
                                       const CheckpointManifest& manifest);

// The checkpoints in FOLDER, oldest step first, by their manifests alone. A folder without a readable manifest is passed over.
std::vector<Checkpoint> list_checkpoints(const std::filesystem::path& folder);

// Reads a checkpoint after comparing both files with the manifest's hashes. `moments`: of AdamW too.
// Throws CheckpointError that says which file is damaged.
Snapshot read_checkpoint(const std::filesystem::path& checkpoint, bool moments);

// The model file of a checkpoint, compared with the manifest's hash, to be read tensor by tensor. Throws CheckpointError.
SafetensorsFile open_model(const std::filesystem::path& checkpoint);

// What `training.init_from` may name: a checkpoint, or a run directory or its checkpoints folder, whose newest counts.
// Throws CheckpointError.
std::filesystem::path find_checkpoint(const std::filesystem::path& path);

// SHA-256 of the model file, from the manifest: what a training that starts here depends on.
std::string model_hash(const std::filesystem::path& checkpoint);

// Removes all but the newest `keep` (0: keeps all); interrupted ones older than the newest, and the newest, too, if the training
// is `finished`; and what killed processes have left. An empty folder goes.
void prune_checkpoints(const std::filesystem::path& folder, int keep, bool finished);

}  // namespace strait
