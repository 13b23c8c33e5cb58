#include "sim/cli/recording.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <optional>

#include "engine/checkpoint/checkpoint.h"
#include "sim/cli/commands.h"
#include "sim/cli/engine_bridge.h"
#include "sim/record/reader.h"
#include "sim/record/writer.h"
#include "sim/trace/output_file.h"
#include "strait_version.h"

namespace strait::cli {
namespace {

namespace fs = std::filesystem;

constexpr const char* kProducer = "strait " STRAIT_VERSION " (" STRAIT_GIT_COMMIT ")";

fs::path record_path(const fs::path& directory) { return directory / "record" / "log.strait"; }

struct ResumePoint {
  Snapshot snapshot;
  CheckpointManifest manifest;
  std::unique_ptr<record::RecordWriter> writer;
};

// The newest checkpoint that is whole and whose record is there; damaged ones are told and passed over.
std::optional<ResumePoint> find_resume_point(const fs::path& directory,
                                             const RecordingOptions& options) {
  const fs::path folder = directory / "checkpoints";
  prune_checkpoints(folder, 0, false);
  std::vector<Checkpoint> found = list_checkpoints(folder);
  for (; !found.empty(); found.pop_back()) {
    const Checkpoint& c = found.back();
    try {
      ResumePoint point{read_checkpoint(c.folder, true), c.manifest, nullptr};
      point.writer = std::make_unique<record::RecordWriter>(
          record_path(directory).string(), record::ResumeAt{c.manifest.record_bytes});
      if (c.manifest.producer != kProducer)
        fmt::print(
            stderr,
            "strait: note: {} was written by {}, this is {}: the files may differ from those "
            "that one program makes\n",
            c.folder.string(), c.manifest.producer, kProducer);
      return point;
    } catch (const CheckpointError& e) {
      if (options.notice) options.notice(fmt::format("passed over: {}", e.what()));
    } catch (const record::RecordError& e) {
      if (options.notice)
        options.notice(fmt::format("passed over {}: {}", c.folder.string(), e.what()));
    }
  }
  return std::nullopt;
}

// Keeps the checkpoints of a run.
class Keeper {
 public:
  Keeper(const fs::path& directory, const TrainingJob& job, std::string record_hash,
         record::RecordWriter& writer, std::function<double()> host_seconds)
      : folder_(directory / "checkpoints"),
        job_(job),
        record_hash_(std::move(record_hash)),
        writer_(writer),
        host_seconds_(std::move(host_seconds)) {}

  void keep(const Snapshot& snapshot) {
    const scenario::Training& t = job_.scenario.training;
    writer_.sync();
    CheckpointManifest m;
    m.step = snapshot.step;
    m.tokens = snapshot.tokens;
    m.interrupted = t.checkpoint_every == 0 ||
                    (snapshot.step % t.checkpoint_every != 0 && snapshot.step != t.steps);
    m.record_bytes = writer_.bytes();
    m.host_seconds = host_seconds_();
    m.record_hash = record_hash_;
    m.data_hash = job_.data_hash;
    m.producer = kProducer;
    m.method = config_at(snapshot.step).method.method;
    m.constraint = snapshot.constraint;
    m.boundaries = snapshot.boundaries;
    m.shape = snapshot.shape;
    write_checkpoint(folder_, snapshot, m);
    prune_checkpoints(folder_, t.keep_checkpoints, false);
  }
  void finish() { prune_checkpoints(folder_, job_.scenario.training.keep_checkpoints, true); }

 private:
  // The configuration that made the state after `step`.
  const TrainingConfig& config_at(int64_t step) const {
    const TrainingConfig* config = &job_.phases.front().config;
    for (const TrainingPhase& phase : job_.phases)
      if (phase.config.first_step <= step) config = &phase.config;
    return *config;
  }

  fs::path folder_;
  const TrainingJob& job_;
  std::string record_hash_;
  record::RecordWriter& writer_;
  std::function<double()> host_seconds_;
};

}  // namespace

Recording train_into(const fs::path& directory, const TrainingJob& job,
                     const RecordingOptions& options) {
  const std::string record_hash = scenario::record_hash(job.scenario);
  std::optional<ResumePoint> point;
  if (options.resume) point = find_resume_point(directory, options);
  std::unique_ptr<record::RecordWriter> writer;
  if (point) {
    writer = std::move(point->writer);
  } else {
    writer = std::make_unique<record::RecordWriter>(record_path(directory).string());
    fs::remove_all(directory / "checkpoints");  // once it is sure that a record can be written
    writer->write(make_header(job.config(), job.backend, job.plan.ranks, kProducer, record_hash));
  }

  if (options.on_open) options.on_open();
  const double before = point ? point->manifest.host_seconds : 0;
  const auto start = std::chrono::steady_clock::now();
  const auto host_seconds = [&] {
    return before + std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  Keeper keeper(directory, job, record_hash, *writer, host_seconds);
  TrainingObserver observer;
  observer.step = [&](const record::StepLog& step) {
    writer->write(step);
    if (options.on_step) options.on_step(step);
  };
  observer.evaluation = [&](const record::Evaluation& e) { writer->write(e); };
  observer.diagnostic = [&](const record::Diagnostic& d) { writer->write(d); };
  observer.stop = options.stop;
  observer.checkpoint = [&](const Snapshot& snapshot) { keeper.keep(snapshot); };
  observer.checkpoint_every = job.scenario.training.checkpoint_every;

  Recording r;
  TrainingStart from;
  if (point) {
    from.state = &point->snapshot;
    r.resumed_from = point->snapshot.step;
  } else if (job.start) {
    from.state = &*job.start;
  }
  r.result = train(job.phases, job.backend, host_threads(job.scenario), from, observer);
  r.host_seconds = host_seconds();
  if (r.result.stopped) return r;
  // The footer last: where it is, everything is as it is to stay, and nobody looks at it again.
  keeper.finish();
  writer->write(record::RecordFooter{r.result.steps, r.host_seconds, r.result.parameters_hash,
                                     job.data_hash});
  return r;
}

void check_resumable(const fs::path& directory, const TrainingJob& job) {
  const std::string own = scenario::record_hash(job.scenario);
  const auto refuse = [](const fs::path& what, const char* kind) {
    throw WrongInput{fmt::format(
        "{}: this {} is of another training than the scenario's (its model, data, training, "
        "parallel, compression or precision differ); allowed: the scenario that the run began "
        "with, or a new --out",
        what.string(), kind)};
  };
  for (const Checkpoint& c : list_checkpoints(directory / "checkpoints"))
    if (c.manifest.record_hash != own || c.manifest.data_hash != job.data_hash)
      refuse(c.folder, "checkpoint");
  const RecordState record = record_state(directory);
  if ((!record.record_hash.empty() && record.record_hash != own) ||
      (record.finished && record.data_hash != job.data_hash))
    refuse(record_path(directory), "record");
}

RecordState record_state(const fs::path& directory) {
  RecordState state;
  try {
    record::RecordReader reader(record_path(directory).string());
    while (const std::optional<record::Frame> frame = reader.next()) {
      if (const auto* header = std::get_if<record::RecordHeader>(&*frame))
        state.record_hash = header->record_hash;
      if (const auto* footer = std::get_if<record::RecordFooter>(&*frame))
        state.data_hash = footer->data_hash;
    }
    state.finished = reader.finished();
  } catch (const record::RecordError&) {
    state.finished = false;
  }
  return state;
}

bool has_finished_record(const fs::path& directory, const std::string& record_hash) {
  const RecordState state = record_state(directory);
  return state.finished && state.record_hash == record_hash;
}

void write_scenario(const fs::path& directory, const scenario::Scenario& scenario) {
  sim::write_whole_file((directory / "scenario.json").string(),
                        scenario::to_json(scenario).dump(2) + "\n");
}

}  // namespace strait::cli
