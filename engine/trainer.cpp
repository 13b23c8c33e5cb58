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
        messages(pool.of(recorder.messages())),
        program(config, rank, *backend, recorder, *communicator, messages, data, plan) {}

  std::unique_ptr<Backend> backend;
  RankRecorder recorder;
  std::unique_ptr<Communicator> communicator;
  MessagePool messages;
  Rank program;
};

// Puts the ranks' steps together. A step is handed on by the rank that completes it; ranks never wait for each other here.
class Collector {
 public:
  // For the steps after `done` up to `last` of a training that began after step `started`. `carry`: the state after the last
  // of them is wanted.
  Collector(const TrainingConfig& config, const TrainingObserver& observer, int64_t started,
            int64_t done, int64_t last, bool carry)
      : config_(config),
        observer_(observer),
        constraint_(constraint_of(config)),
        carry_(carry),
        started_(started),
        last_(last),
        begun_(done),
        done_(done) {}

  // False: this step is not to be begun. All ranks get the same answer.
  bool begin(int64_t step) {
    std::lock_guard lock(mutex_);
    if (step > last_) return false;
    if (!last_step_ && observer_.stop && observer_.stop()) last_step_ = begun_;
    if (last_step_ && step > *last_step_) return false;
    begun_ = std::max(begun_, step);
    return true;
  }

  void deliver(int64_t step, int rank, RankStep part) {
    std::lock_guard lock(mutex_);
    std::vector<std::optional<RankStep>>& parts =
        open_.try_emplace(step, static_cast<size_t>(config_.grid().ranks())).first->second;
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

  // `loss_sum`: of the tokens of one copy of the last stage, the `copy`th.
  void evaluated(int64_t step, int copy, double loss_sum) {
    std::lock_guard lock(mutex_);
    std::map<int, double>& sums = evaluations_[step];
    sums[copy] = loss_sum;
    if (sums.size() < static_cast<size_t>(config_.grid().copies())) return;
    double loss = 0;
    for (const auto& [c, sum] : sums) loss += sum;
    evaluations_.erase(step);
    const int64_t sequences =
        int64_t{config_.evaluate_batches} * config_.sequences() * config_.replicas;
    loss /= static_cast<double>(sequences * config_.shape.context);
    if (observer_.evaluation) observer_.evaluation({step, tokens_after(step), loss});
  }

  // Whether every rank hands in its state after `step` and its evaluation, before it begins another.
  bool wants_state(int64_t step) const { return due(step) || (carry_ && step == last_); }
  // Whether it does so at its end, because the training was stopped after `step`.
  bool wants_stopped_state(int64_t step) const {
    return observer_.checkpoint && stopped() && !due(step) && step > started_;
  }

  // The last rank's part completes the state. The record then ends with `step`: this rank has not begun another.
  void hand_in(int64_t step, int rank, bool at_stop, std::vector<ParameterState> part) {
    std::lock_guard lock(mutex_);
    auto& parts = states_.try_emplace({step, at_stop}, static_cast<size_t>(config_.grid().ranks()))
                      .first->second;
    parts[static_cast<size_t>(rank)] = std::move(part);
    if (!std::all_of(parts.begin(), parts.end(), [](const auto& p) { return p.has_value(); }))
      return;
    Snapshot snapshot{step,        tokens_after(step),     config_.shape,
                      constraint_, boundaries_of(config_), {}};
    for (auto& p : parts) snapshot.add(std::move(*p));
    states_.erase({step, at_stop});
    if (at_stop || due(step)) observer_.checkpoint(snapshot);
    if (carry_ && step == last_) carried_ = std::move(snapshot);
  }

  int64_t last() const { return last_; }
  int64_t done() const { return done_; }
  bool stopped() const {
    std::lock_guard lock(mutex_);
    return last_step_.has_value() && *last_step_ < config_.steps;
  }
  Snapshot take_carried() { return std::move(carried_); }
  uint64_t tokens_after(int64_t step) const {
    return config_.tokens_before +
           static_cast<uint64_t>(step - config_.first_step + 1) * tokens_per_step();
  }

 private:
  uint64_t tokens_per_step() const {
    return static_cast<uint64_t>(config_.batch) * static_cast<uint64_t>(config_.shape.context);
  }

  bool due(int64_t step) const {
    return observer_.checkpoint && observer_.checkpoint_every > 0 &&
           (step % observer_.checkpoint_every == 0 || step == config_.steps);
  }

  const TrainingConfig& config_;
  const TrainingObserver& observer_;
  const ModelConstraint constraint_;
  const bool carry_;
  const int64_t started_, last_;
  mutable std::mutex mutex_;
  std::map<int64_t, std::vector<std::optional<RankStep>>> open_;
  std::map<std::pair<int64_t, bool>, std::vector<std::optional<std::vector<ParameterState>>>>
      states_;
  std::map<int64_t, std::map<int, double>> evaluations_;  // by step and copy
  Snapshot carried_;
  std::optional<int64_t> last_step_;  // where `stop` ends the training
  int64_t begun_, done_;
};

bool evaluate_after(const TrainingConfig& c, int64_t step) {
  return c.evaluate_every > 0 && (step % c.evaluate_every == 0 || step == c.steps);
}

// Steps done + 1 to the collector's last, by one rank.
void run_rank(const TrainingConfig& config, Rank& rank, int index, bool computes, int64_t done,
              Collector& collector) {
  const bool last = config.grid().stage(index) == config.pipeline - 1;
  auto evaluate = [&](int64_t step) {
    if (!computes) return;
    const double loss = rank.evaluate();
    if (last) collector.evaluated(step, config.grid().copy(index), loss);
  };
  rank.begin();
  rank.handshake();
  if (done == 0 && evaluate_after(config, 0)) evaluate(0);
  for (int64_t step = done + 1; collector.begin(step); done = step++) {
    collector.deliver(step, index, rank.train(step, step == collector.last()));
    if (evaluate_after(config, step)) evaluate(step);
    if (computes && collector.wants_state(step)) collector.hand_in(step, index, false, rank.save());
  }
  if (computes && collector.wants_stopped_state(done))
    collector.hand_in(done, index, true, rank.save());
}

// All ranks of one phase.
class PhaseRun {
 public:
  PhaseRun(const TrainingPhase& phase, BackendKind kind, int host_threads)
      : phase_(phase),
        kind_(kind),
        plan_(dry_run(phase.config)),
        // On a device one rank at a time: their work then follows on the stream in whole segments, each with its own time.
        hub_(phase.config.grid().ranks(), kind == BackendKind::cuda ? 1 : host_threads),
        // With fewer ranks than host threads the rest of the threads work inside the ops.
        op_threads_(std::max(1, host_threads / phase.config.grid().ranks())),
        hosts_(static_cast<size_t>(phase.config.grid().ranks())) {}

  void run(const TrainingStart& start, int64_t done, Collector& collector) {
    const bool computes = kind_ != BackendKind::meta;
    hub_.run([&](int r) {
      auto& host = hosts_[static_cast<size_t>(r)];
      host = std::make_unique<RankHost>(phase_.config, r, make_backend(kind_, op_threads_), hub_,
                                        pool_, phase_.data,
                                        computes ? &plan_.ranks[static_cast<size_t>(r)] : nullptr);
      if (computes && start.state != nullptr)
        host->program.load(*start.state, start.state->step > 0);
      run_rank(phase_.config, host->program, r, computes, done, collector);
    });
    if (computes) check_copies(collector.done() == collector.last());
  }

  // Of the first copy of each stage.
  std::string parameters_hash() {
    uint64_t hash = 0;
    for (int stage = 0; stage < phase_.config.pipeline; ++stage)
      hash = hash_name(fmt::format("{:016x}", program(stage).parameters_hash()), hash);
    return fmt::format("{:016x}", hash);
  }

 private:
  Rank& program(int rank) { return hosts_[static_cast<size_t>(rank)]->program; }

  // Copies that are to have the same parameters are saved once. Throws std::runtime_error where another has other parameters or shared states.
  void check_copies(bool phase_ended) {
    const Grid grid = phase_.config.grid();
    const bool same = !phase_.config.copies_differ() ||
                      (phase_ended && phase_.config.synchronisation.scope == SynchronisedPart::all);
    for (int r = grid.pipeline; r < grid.ranks(); ++r) {
      Rank &first = program(grid.stage(r)), &copy = program(r);
      if ((same && copy.parameters_hash() != first.parameters_hash()) ||
          copy.shared_state_hash() != first.shared_state_hash())
        throw std::runtime_error(fmt::format(
            "rank {} and rank {} hold the same parameters no longer", grid.stage(r), r));
    }
  }

  const TrainingPhase& phase_;
  BackendKind kind_;
  DryRun plan_;
  MessagePool pool_;
  InProcess hub_;
  int op_threads_;
  std::vector<std::unique_ptr<RankHost>> hosts_;
};

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
  one.first_step = 1;
  // What copies average now and then comes after the step that is looked at, but counts in the memory.
  const int64_t steady = make_method(config)->steady_step();
  one.steps = one.synchronisation.every = steady + (config.copies_differ() ? 1 : 0);
  one.tokens_before = 0;
  one.context.mixture.calibration_batches = 1;                    // all of them are alike
  one.diagnose_every = std::min<int64_t>(one.diagnose_every, 1);  // it needs scratch memory, too
  MessagePool pool;
  InProcess hub(config.grid().ranks(), 1);
  std::vector<std::unique_ptr<RankHost>> hosts;
  for (int r = 0; r < config.grid().ranks(); ++r)
    hosts.push_back(
        std::make_unique<RankHost>(one, r, make_meta_backend(), hub, pool, nullptr, nullptr));
  DryRun result;
  const TrainingObserver observer{[&](const record::StepLog& log) {
                                    if (log.step == steady) result.step = log;
                                    if (log.step > steady) result.average = log;
                                  },
                                  {},
                                  {},
                                  {}};
  Collector collector(one, observer, 0, 0, one.steps, false);
  hub.run([&](int r) {
    run_rank(one, hosts[static_cast<size_t>(r)]->program, r, false, 0, collector);
  });
  for (auto& host : hosts) result.ranks.push_back(host->program.plan());
  if (result.average && config.synchronisation.every == 1) result.step = *result.average;
  return result;
}

int64_t trainable_parameters(const TrainingConfig& config) {
  MessagePool pool;
  InProcess hub(config.grid().ranks(), 1);
  int64_t sum = 0;
  for (int r = 0; r < config.pipeline; ++r)
    sum += RankHost(config, r, make_meta_backend(), hub, pool, nullptr, nullptr)
               .program.plan()
               .parameters;
  return sum;
}

int64_t trainable_parameters(const TrainingConfig& config, const std::vector<RankPlan>& plans) {
  int64_t sum = 0;
  for (int r = 0; r < config.pipeline; ++r) sum += plans.at(static_cast<size_t>(r)).parameters;
  return sum;
}

void check_start(const Snapshot& state, const TrainingConfig& config) {
  const ModelShape &there = state.shape, &here = config.shape;
  const std::pair<const char*, int ModelShape::*> sizes[] = {
      {"layers", &ModelShape::layers},         {"width", &ModelShape::width},
      {"heads", &ModelShape::heads},           {"kv_heads", &ModelShape::kv_heads},
      {"head_width", &ModelShape::head_width}, {"ffn_width", &ModelShape::ffn_width},
      {"vocabulary", &ModelShape::vocabulary}};
  for (const auto& [name, size] : sizes)
    if (there.*size != here.*size)
      throw std::invalid_argument(
          fmt::format("the state to start from is of a model whose {} is {}; here it is {}", name,
                      there.*size, here.*size));
  // Those of another grid, or mode, would lose what each copy has learned for itself.
  if (const int copies = copies_that_differ(state);
      copies > 1 && (!config.copies_differ() || config.grid().copies() != copies))
    throw std::invalid_argument(fmt::format(
        "the state to start from has {} copies of each parameter, which have not been averaged at "
        "step {}; start from a step after which parallel.synchronisation averages all of them, or "
        "with as many copies and the same mode",
        copies, state.step));
}

TrainingResult train(const std::vector<TrainingPhase>& phases, BackendKind kind, int host_threads,
                     const TrainingStart& start, const TrainingObserver& observer) {
  const int64_t steps = phases.at(0).config.steps, started = start.state ? start.state->step : 0;
  if (start.state != nullptr) check_start(*start.state, phases.at(0).config);
  TrainingResult result{started, false, ""};
  Snapshot carried;
  const Snapshot* state = start.state;
  for (size_t p = 0; p < phases.size() && !result.stopped; ++p) {
    const bool more = p + 1 < phases.size();
    const int64_t last = more ? phases[p + 1].config.first_step - 1 : steps;
    if (more && last <= result.steps) continue;
    PhaseRun run(phases[p], kind, host_threads);
    Collector collector(phases[p].config, observer, started, result.steps, last,
                        more && kind != BackendKind::meta);
    run.run({state}, result.steps, collector);
    result.steps = collector.done();
    result.stopped = collector.stopped();
    carried = collector.take_carried();
    if (more) state = &carried;
    if ((!more || result.stopped) && kind != BackendKind::meta)
      result.parameters_hash = run.parameters_hash();
  }
  return result;
}

TrainingResult train(const TrainingConfig& config, BackendKind kind, const BatchSource* data,
                     int host_threads, const TrainingObserver& observer) {
  return train({{config, data}}, kind, host_threads, {}, observer);
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
  const Grid grid = config.grid();
  h.pipeline = grid.pipeline;
  h.context = grid.context;
  h.data = grid.data;
  h.meta = kind == BackendKind::meta;
  h.op_names = op_names();
  for (int r = 0; r < grid.ranks(); ++r) {
    const RankPlan& p = plan.at(static_cast<size_t>(r));
    record::RankInfo info;
    info.stage = grid.stage(r);
    info.shard = grid.shard(r);
    info.replica = grid.replica(r);
    info.layers = p.layers.count == 1
                      ? fmt::format("{}", p.layers.first)
                      : fmt::format("{}-{}", p.layers.first, p.layers.first + p.layers.count - 1);
    if (info.stage == 0) info.layers = "embedding, " + info.layers;
    if (info.stage == grid.pipeline - 1) info.layers += ", head";
    info.parameters = static_cast<uint64_t>(p.parameters);
    info.persistent = {p.persistent_bytes};
    info.frames = {p.frame_bytes * static_cast<size_t>(p.frames)};
    info.scratch = {p.scratch_bytes + p.message_bytes};
    h.ranks.push_back(std::move(info));
  }
  return h;
}

}  // namespace strait
