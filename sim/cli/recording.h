// A training that writes its record: the engine's observer on one side, sim/record's writer and the checkpoints on the other.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "sim/cli/training_job.h"

namespace strait::cli {

struct Recording {
  TrainingResult result;
  double host_seconds = 0;   // of all sessions
  int64_t resumed_from = 0;  // steps that were there already
};

struct RecordingOptions {
  // Go on from the newest whole checkpoint of DIRECTORY, if there is one; the record is cut to it.
  bool resume = false;
  std::function<void()> on_open;  // once the record is there, cut where it is to be, and grows
  std::function<void(const record::StepLog&)> on_step;  // after the step is in the record
  std::function<bool()> stop;                           // as in TrainingObserver
  std::function<void(const std::string&)> notice;       // one line for people
};

// Trains `job` into DIRECTORY/record/log.strait and DIRECTORY/checkpoints. The footer is written unless the training was stopped.
// Throws what training, the writer and checkpoints throw.
Recording train_into(const std::filesystem::path& directory, const TrainingJob& job,
                     const RecordingOptions& options);

// Throws WrongInput where DIRECTORY has a checkpoint or the record of another training. To be asked before anything in it is changed.
void check_resumable(const std::filesystem::path& directory, const TrainingJob& job);

// What the record in DIRECTORY says of itself, as far as it can be read.
struct RecordState {
  std::string record_hash;  // "" where there is none
  std::string data_hash;    // of a finished one
  bool finished = false;    // whole, footer included
};
RecordState record_state(const std::filesystem::path& directory);

// Whether DIRECTORY holds the whole record, footer included, of a training with this record hash.
bool has_finished_record(const std::filesystem::path& directory, const std::string& record_hash);

// DIRECTORY/scenario.json, whole or not at all.
void write_scenario(const std::filesystem::path& directory, const scenario::Scenario& scenario);

}  // namespace strait::cli
