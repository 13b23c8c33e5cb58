#include "engine/trainer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <optional>
#include <stdexcept>

#include "engine/in_process.h"

namespace strait {
namespace {

// One rank and what it stands on.
struct RankHost {
  RankHost(const TrainingConfig& config, int rank, std::unique_ptr<Backend> b, InProcess& hub,
           MessagePool& pool, const BatchSource* data, const RankPlan* plan)
      : backend(std::move(b)),
        recorder(rank, *backend),
        communicator(hub.communicator(rank, recorder)),
        program(config, rank, *backend, recorder, *communicator, pool, data, plan) {}

  std::unique_ptr<Backend> backend;
  RankRecorder recorder;
  std::unique_ptr<Communicator> communicator;
  Rank program;
};

// Puts the ranks' steps together. A step is handed on by the rank that completes it; ranks never wait for each other here.
class Collector {
 public:
  Collector(const TrainingConfig& config, const TrainingObserver& observer)
      : config_(config), observer_(observer) {}

  // False: this step is not to be begun. All ranks get the same answer.
  bool begin(int64_t step) {
    std::lock_guard lock(mutex_);
    if (!last_step_ && observer_.stop && observer_.stop()) last_step_ = begun_;
    if (last_step_ && step > *last_step_) return false;
    begun_ = std::max(begun_, step);
    return true;
  }

  void deliver(int64_t step, int rank, RankStep part) {
    std::lock_guard lock(mutex_);
    std::vector<std::optional<RankStep>>& parts =
        open_.try_emplace(step, static_cast<size_t>(config_.pipeline)).first->second;
    parts[static_cast<size_t>(rank)] = std::move(part);
    if (!std::all_of(parts.begin(), parts.end(), [](const auto& p) { return p.has_value(); }))
      return;
    record::StepLog log;
    log.step = step;
    log.tokens = tokens_per_step();
    log.learning_rate = config_.learning_rate.at(step);
    double sum_squares = 0;
    std::vector<record::Diagnostic> diagnostics;
    for (auto& p : parts) {
      log.loss += p->loss_sum;
      sum_squares += p->grad_sum_squares;
      log.ranks.push_back(std::move(p->log));
      diagnostics.insert(diagnostics.end(), p->diagnostics.begin(), p->diagnostics.end());
    }
    log.loss /= static_cast<double>(log.tokens);
    log.grad_norm = std::sqrt(sum_squares);
    open_.erase(step);
    done_ = step;
    if (observer_.step) observer_.step(log);
    std::stable_sort(diagnostics.begin(), diagnostics.end(),
                     [](const auto& a, const auto& b) { return a.boundary < b.boundary; });
    if (!observer_.diagnostic) return;
    for (const record::Diagnostic& d : diagnostics) observer_.diagnostic(d);
  }

  void evaluated(int64_t step, double loss) {
    std::lock_guard lock(mutex_);
    if (observer_.evaluation)
      observer_.evaluation({step, static_cast<uint64_t>(step) * tokens_per_step(), loss});
  }

  int64_t done() const { return done_; }
  bool stopped() const { return last_step_.has_value() && *last_step_ < config_.steps; }

 private:
  uint64_t tokens_per_step() const {
    return static_cast<uint64_t>(config_.batch) * static_cast<uint64_t>(config_.shape.context);
  }

  const TrainingConfig& config_;
  const TrainingObserver& observer_;
  std::mutex mutex_;
  std::map<int64_t, std::vector<std::optional<RankStep>>> open_;
  std::optional<int64_t> last_step_;
  int64_t begun_ = 0, done_ = 0;
};

bool evaluate_after(const TrainingConfig& c, int64_t step) {
  return c.evaluate_every > 0 && (step % c.evaluate_every == 0 || step == c.steps);
}

void run_rank(const TrainingConfig& config, Rank& rank, int index, bool computes,
              Collector& collector) {
  const bool last = index == config.pipeline - 1;
  auto evaluate = [&](int64_t step) {
    if (!computes) return;
    const double loss = rank.evaluate();
    if (last) collector.evaluated(step, loss);
  };
  rank.handshake();
  if (evaluate_after(config, 0)) evaluate(0);
  for (int64_t step = 1; step <= config.steps && collector.begin(step); ++step) {
    collector.deliver(step, index, rank.train(step));
    if (evaluate_after(config, step)) evaluate(step);
  }
}

}  // namespace

std::unique_ptr<Backend> make_backend(BackendKind kind, int threads) {
  switch (kind) {
    case BackendKind::cpu:
      return make_cpu_backend(threads);
    case BackendKind::meta:
      return make_meta_backend();
    case BackendKind::reference:
      return make_reference_backend();
    case BackendKind::cuda:
      break;
  }
  std::string reason;
  auto backend = make_cuda_backend(&reason);
  if (!backend) throw std::invalid_argument("the CUDA backend cannot be used: " + reason);
  return backend;
}

DryRun dry_run(const TrainingConfig& config) {
  validate(config);
  TrainingConfig one = config;
  one.steps = 1;
  MessagePool pool;
  InProcess hub(config.pipeline, 1);
  std::vector<std::unique_ptr<RankHost>> hosts;
  for (int r = 0; r < config.pipeline; ++r)
    hosts.push_back(
        std::make_unique<RankHost>(one, r, make_meta_backend(), hub, pool, nullptr, nullptr));
  DryRun result;
  const TrainingObserver observer{
      [&](const record::StepLog& log) { result.step = log; }, {}, {}, {}};
  Collector collector(one, observer);
  hub.run(
      [&](int r) { run_rank(one, hosts[static_cast<size_t>(r)]->program, r, false, collector); });
  for (auto& host : hosts) result.ranks.push_back(host->program.plan());
  return result;
}

TrainingResult train(const TrainingConfig& config, BackendKind kind, const BatchSource* data,
                     int host_threads, const TrainingObserver& observer) {
  const bool computes = kind != BackendKind::meta;
  const DryRun plan = dry_run(config);
  MessagePool pool;
  InProcess hub(config.pipeline, host_threads);
  // With fewer ranks than host threads the rest of the threads work inside the ops.
  const int op_threads = std::max(1, host_threads / config.pipeline);
  std::vector<std::unique_ptr<RankHost>> hosts(static_cast<size_t>(config.pipeline));
  Collector collector(config, observer);
  hub.run([&](int r) {
    auto& host = hosts[static_cast<size_t>(r)];
    host = std::make_unique<RankHost>(config, r, make_backend(kind, op_threads), hub, pool, data,
                                      computes ? &plan.ranks[static_cast<size_t>(r)] : nullptr);
    run_rank(config, host->program, r, computes, collector);
  });
  TrainingResult result{collector.done(), collector.stopped(), ""};
  if (computes) {
    uint64_t hash = 0;
    for (auto& host : hosts)
      hash = hash_name(fmt::format("{:016x}", host->program.parameters_hash()), hash);
    result.parameters_hash = fmt::format("{:016x}", hash);
  }
  return result;
}

record::RecordHeader make_header(const TrainingConfig& config, BackendKind kind,
                                 const std::vector<RankPlan>& plan, std::string producer,
                                 std::string record_hash) {
  record::RecordHeader h;
  h.producer = std::move(producer);
  h.backend = kind == BackendKind::cpu    ? "cpu"
              : kind == BackendKind::cuda ? "cuda"
              : kind == BackendKind::meta ? "meta"
                                          : "reference";
  h.precision = config.dtype == DType::bf16 ? "bf16" : config.dtype == DType::f32 ? "fp32" : "fp64";
  h.record_hash = std::move(record_hash);
  h.seed = config.seed;
  h.pipeline = config.pipeline;
  h.meta = kind == BackendKind::meta;
  h.op_names = op_names();
  for (int r = 0; r < config.pipeline; ++r) {
    const RankPlan& p = plan.at(static_cast<size_t>(r));
    record::RankInfo info;
    info.stage = r;
    info.layers = p.layers.count == 1
                      ? fmt::format("{}", p.layers.first)
                      : fmt::format("{}-{}", p.layers.first, p.layers.first + p.layers.count - 1);
    if (r == 0) info.layers = "embedding, " + info.layers;
    if (r == config.pipeline - 1) info.layers += ", head";
    info.parameters = static_cast<uint64_t>(p.parameters);
    info.persistent = {p.persistent_bytes};
    info.frames = {p.frame_bytes * static_cast<size_t>(p.frames)};
    info.scratch = {p.scratch_bytes};
    h.ranks.push_back(std::move(info));
  }
  return h;
}

}  // namespace strait
