// strait show SCENARIO.json: the resolved scenario, and what one step of it will be.
#include <fmt/format.h>

#include "engine/memory_plan.h"
#include "sim/cli/commands.h"
#include "sim/cli/data_source.h"
#include "sim/cli/engine_bridge.h"
#include "sim/cli/load.h"
#include "sim/cli/prediction.h"
#include "sim/cli/progress.h"

namespace strait::cli {
namespace {

std::string gib(size_t bytes) { return bytes_text(static_cast<double>(bytes)); }

void print_ranks(const record::RecordHeader& header) {
  fmt::print("\n{:<5} {:<22} {:>14} {:>12} {:>12} {:>12}\n", "rank", "layers", "parameters",
             "persistent", "frames", "scratch");
  for (size_t r = 0; r < header.ranks.size(); ++r) {
    const record::RankInfo& i = header.ranks[r];
    fmt::print("{:<5} {:<22} {:>14} {:>12} {:>12} {:>12}\n", r, i.layers, i.parameters,
               gib(i.persistent.count), gib(i.frames.count), gib(i.scratch.count));
  }
}

// On the machine that this runs on; a training elsewhere asks there.
void print_memory(const scenario::Scenario& s, const TrainingConfig& config, const DryRun& plan) {
  const bool elsewhere =
      s.devices.backend == scenario::Backend::cuda && make_cuda_backend(nullptr) == nullptr;
  if (elsewhere || s.devices.backend == scenario::Backend::meta) return;
  const BackendKind kind = to_backend(s.devices.backend);
  const uint64_t available = make_backend(kind, 1)->available_memory();
  const std::string problem = memory_problem(config, plan.ranks, available);
  fmt::print("\nmemory            {} for all ranks, {} free here ({}){}\n",
             gib(memory_needed(plan.ranks)), gib(available), name_of(kind),
             problem.empty() ? "" : "\n                  DOES NOT FIT: " + problem);
}

void print_bytes(const TrainingConfig& config, const record::StepLog& step) {
  const StepBytes b = bytes_of(step);
  const auto rank = make_method(config.method, config.shape, config.dtype)->rank();
  fmt::print("\nmethod            {}{}\n", config.method.method,
             rank ? fmt::format(", rank {} of {}", *rank, config.shape.width) : "");
  fmt::print("bytes per step    forward {}, backward {}, sync {}\n",
             bytes_text(static_cast<double>(b.forward)),
             bytes_text(static_cast<double>(b.backward)), bytes_text(static_cast<double>(b.sync)));
  fmt::print("wire ratio        {:.2f}x against method none at {}\n", b.wire_ratio(),
             config.dtype == DType::bf16 ? "bf16" : "fp32");
}

void print_time(const char* label, const sim::StepTiming& t, uint64_t tokens) {
  const sim::Attribution& a = t.path;
  fmt::print(
      "{:<17} {} ({:.0f} tokens/s): compute {}, codec {}, host {}, serialisation {}, propagation "
      "{}, window {}, queue {}, recovery {}\n",
      label, duration_text(t.step_time().seconds()),
      static_cast<double>(tokens) / t.step_time().seconds(), duration_text(a.compute.seconds()),
      duration_text(a.codec.seconds()), duration_text(a.host.seconds()),
      duration_text(a.serialisation.seconds()), duration_text(a.propagation.seconds()),
      duration_text(a.window.seconds()), duration_text(a.queue.seconds()),
      duration_text(a.recovery.seconds()));
}

}  // namespace

int show_command(const std::string& file, const std::vector<std::string>& set) {
  const scenario::Scenario s = load(file, set);
  const TrainingConfig config = to_training(s, stated_vocabulary(s));
  const DryRun plan = dry_run(config);
  const record::RecordHeader header = make_header(config, BackendKind::meta, plan.ranks, "", "");
  fmt::print("{}\n\n", scenario::to_json(s).dump(2));
  fmt::print(
      "model             {} layers, width {}, heads {}/{} of {}, ffn {}, vocabulary {}, context "
      "{}\n",
      config.shape.layers, config.shape.width, config.shape.heads, config.shape.kv_heads,
      config.shape.head_width, config.shape.ffn_width, config.shape.vocabulary,
      config.shape.context);
  int64_t trainable = 0;
  for (const RankPlan& p : plan.ranks) trainable += p.parameters;
  fmt::print("parameters        {} trained, {} in the uncompressed model\n", trainable,
             parameter_count(config.shape));
  fmt::print("tokens per step   {}\n", plan.step.tokens);
  print_ranks(header);
  print_memory(s, config, plan);
  print_bytes(config, plan.step);
  fmt::print("\nschedule          {} with {} microbatches\n{}\n", config.schedule,
             config.microbatches,
             to_grid(make_schedule(config.schedule, config.pipeline, config.microbatches)));
  if (s.devices.timing.measured) {
    fmt::print("step time         devices.timing is \"measured\": known after the run\n");
    return kDone;
  }
  const StepPrediction p = predict_step(s, header, plan.step);
  fmt::print("predicted with    {}\n",
             s.network.model == sim::NetworkModel::ideal ? "ideal" : "fluid");
  print_time("first step", p.first, plan.step.tokens);
  print_time("later steps", p.steady, plan.step.tokens);
  if (s.network.model == sim::NetworkModel::packet) {
    fmt::print("packet model      about {} of host time for {} steps\n",
               duration_text(predict_packet_seconds(s, plan.step)), s.training.steps);
  }
  return kDone;
}

}  // namespace strait::cli
