#include "sim/cli/finished_trainings.h"

#include <fmt/format.h>

#include <cstdio>

#include "kernels/cpu/cpu_backend.h"
#include "sim/cli/engine_bridge.h"
#include "sim/sweep/cache.h"

namespace strait::cli {
namespace {

sweep::TrainingIdentity identity_of(const TrainingJob& job) {
  sweep::TrainingIdentity identity;
  identity.record_hash = scenario::record_hash(job.scenario);
  // Checkpoints leave the record alone, but they are part of what a finished training has left.
  const scenario::Training& t = job.scenario.training;
  if (t.checkpoint_every > 0)
    identity.record_hash +=
        fmt::format(" checkpoints {} {}", t.checkpoint_every, t.keep_checkpoints);
  identity.data_hash = job.data_hash;
  identity.backend = name_of(job.backend);
  // Libraries choose their code by more than the instruction set that ours is chosen by.
  identity.device = make_backend(job.backend, 1)->device_name();
  if (job.backend == BackendKind::cpu)
    identity.device += fmt::format(", {}", cpu::name_of(cpu::available_instruction_sets().back()));
  identity.program = sweep::program_identity();
  return identity;
}

}  // namespace

FinishedTrainings::FinishedTrainings(const TrainingJob& job, bool use) : job_(job) {
  if (use && job.backend != BackendKind::meta && !job.scenario.devices.timing.measured)
    key_ = sweep::training_key(identity_of(job));
}

bool FinishedTrainings::has() const {
  try {
    return !key_.empty() && sweep::RunCache(sweep::RunCache::default_root()).has(key_);
  } catch (const sweep::CacheError&) {
    return false;
  }
}

bool FinishedTrainings::take(const std::filesystem::path& directory) const {
  if (key_.empty()) return false;
  try {
    return sweep::RunCache(sweep::RunCache::default_root()).fetch(key_, directory);
  } catch (const sweep::CacheError& e) {
    fmt::print(stderr, "strait: the cache of finished trainings is not used: {}\n", e.what());
    return false;
  }
}

void FinishedTrainings::keep(const std::filesystem::path& directory, double host_seconds) const {
  if (key_.empty()) return;
  try {
    sweep::RunCache(sweep::RunCache::default_root())
        .store(key_, directory,
               {job_.scenario.name, identity_of(job_), scenario::to_json(job_.scenario),
                host_seconds});
  } catch (const sweep::CacheError& e) {
    fmt::print(stderr, "strait: this training is not in the cache: {}\n", e.what());
  }
}

}  // namespace strait::cli
