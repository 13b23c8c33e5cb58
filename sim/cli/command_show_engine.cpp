// strait show SCENARIO.json: the resolved scenario, and what one step of it will be.
#include <fmt/format.h>

#include <optional>

#include "engine/memory_plan.h"
#include "sim/cli/commands.h"
#include "sim/cli/engine_bridge.h"
#include "sim/cli/load.h"
#include "sim/cli/prediction.h"
#include "sim/cli/progress.h"
#include "sim/cli/training_job.h"
#include "sim/scenario/devices.h"

namespace strait::cli {
namespace {

std::string gib(size_t bytes) { return bytes_text(static_cast<double>(bytes)); }

uint64_t peak(const RankPlan& p) { return memory_needed({p}); }

// `plain`: of the uncompressed model; null where that is the model itself.
void print_model(const TrainingConfig& config, const DryRun& plan, const DryRun* plain) {
  fmt::print(
      "model             {} layers, width {}, heads {}/{} of {}, ffn {}, vocabulary {}, context "
      "{}\n",
      config.shape.layers, config.shape.width, config.shape.heads, config.shape.kv_heads,
      config.shape.head_width, config.shape.ffn_width, config.shape.vocabulary,
      config.shape.context);
  const auto beside = [&](const auto& figure) {
    return plain ? fmt::format("; uncompressed {}", figure(*plain)) : std::string();
  };
  const auto parameters = [&](const DryRun& p) {
    return fmt::format("{}", trainable_parameters(config, p.ranks));
  };
  const auto flops = [](const DryRun& p) { return fmt::format("{:.3e}", flops_of(p.step)); };
  fmt::print("parameters        {} trained{}\n", parameters(plan), beside(parameters));
  fmt::print("FLOPs per step    {}{}\n", flops(plan), beside(flops));
  fmt::print("tokens per step   {}\n", plan.step.tokens);
  if (const int64_t padding = config.padded_context() - config.shape.context; padding > 0)
    fmt::print("padding           {} tokens behind every {}: shards are equally long\n", padding,
               config.shape.context);
}

void print_ranks(const record::RecordHeader& header, const DryRun& plan, const DryRun* plain) {
  fmt::print("\n{:<5} {:<22} {:>14} {:>12} {:>12} {:>12} {:>12}{}\n", "rank", "layers",
             "parameters", "persistent", "frames", "scratch", "peak",
             plain ? "   uncompressed: parameters, peak" : "");
  for (size_t r = 0; r < header.ranks.size(); ++r) {
    const record::RankInfo& i = header.ranks[r];
    fmt::print("{:<5} {:<22} {:>14} {:>12} {:>12} {:>12} {:>12}", r, i.layers, i.parameters,
               gib(i.persistent.count), gib(i.frames.count), gib(i.scratch.count),
               gib(peak(plan.ranks[r])));
    if (plain) fmt::print(" {:>25} {:>7}", plain->ranks[r].parameters, gib(peak(plain->ranks[r])));
    fmt::print("\n");
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

// ", for ratio 20, of width 256", "" for a method without a size.
std::string ratio_text(const TrainingConfig& config) {
  if (!make_method(config)->rank()) return "";
  return fmt::format("{}, of width {}",
                     config.method.ratio ? fmt::format(", for ratio {}", *config.method.ratio) : "",
                     config.shape.width);
}

// ", 2 of 8 layers full rank" where the method constrains the others.
std::string full_rank_text(const TrainingConfig& config) {
  if (constraint_of(config) == ModelConstraint{}) return "";
  return fmt::format(", {} of {} layers full rank",
                     config.shape.layers - constrained_layers(config), config.shape.layers);
}

// All figures are counted from the messages of the dry run.
void print_bytes(const TrainingConfig& config, const DryRun& plan) {
  const StepTraffic traffic = traffic_of(plan.step, config.grid());
  const StepBytes& b = traffic.pipeline;
  const auto text = [](uint64_t bytes) { return bytes_text(static_cast<double>(bytes)); };
  fmt::print("\nmethod            {}{}{}\n", method_text(config), ratio_text(config),
             full_rank_text(config));
  fmt::print("bytes per step    forward {}, backward {}, sync {}\n", text(b.forward.payload),
             text(b.backward.payload), text(b.sync()));
  fmt::print(
      "wire ratio        {:.2f}x with sync, forward {:.2f}x, backward {:.2f}x: against method none "
      "at "
      "{}\n",
      b.combined().wire_ratio(), b.forward.wire_ratio(), b.backward.wire_ratio(),
      config.dtype == DType::bf16 ? "bf16" : "fp32");
  const StepBytes& context = traffic.context;
  if (config.shards > 1)
    fmt::print(
        "keys and values   {}, {} shards, {}, {}: forward {}, backward {}, wire ratio {:.2f}x\n",
        context_text(config), config.shards, name_of(config.context.algorithm),
        name_of(config.context.layout), text(context.forward.payload),
        text(context.backward.payload), context.exchange().wire_ratio());
  else if (config.context.method != "none")
    fmt::print("keys and values   {}, on one shard: nothing travels\n", context_text(config));
  if (plan.average) {
    const StepTraffic average = traffic_of(*plan.average, config.grid());
    const uint64_t without =
        config.synchronisation.every > 1 ? traffic.context.sync() + traffic.data.sync() : 0;
    fmt::print(
        "parameters        {} copies of each stage average theirs every {} steps: {} each time\n",
        config.grid().copies(), config.synchronisation.every,
        text(average.context.sync() + average.data.sync() - without));
  } else if (config.grid().copies() > 1)
    fmt::print("gradients         {} copies of each stage sum them: {} a step\n",
               config.grid().copies(), text(traffic.context.sync() + traffic.data.sync()));
}

// devices.timing.link_free_step, and what it makes of the card.
void print_devices(const scenario::Scenario& s, const record::RecordHeader& header,
                   const record::StepLog& step) {
  if (!s.devices.timing.link_free_step) return;
  const double factor = scenario::link_free_factor(s, header, step);
  fmt::print("devices           {}, so that a step without links takes {}\n",
             scenario::make_devices(s, header, factor).front().description(),
             duration_text(s.devices.timing.link_free_step->seconds()));
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
  scenario::Scenario s = load(file, set);
  const TrainingConfig config = planned_training(s, file);
  write_matched_width(s, config);
  const DryRun plan = dry_run(config);
  std::optional<DryRun> plain;
  if (compresses(s)) plain = dry_run(planned_training(uncompressed(s), file));
  const DryRun* beside = plain ? &*plain : nullptr;
  const record::RecordHeader header = make_header(config, BackendKind::meta, plan.ranks, "", "");
  fmt::print("{}\n\n", scenario::to_json(s).dump(2));
  print_model(config, plan, beside);
  print_ranks(header, plan, beside);
  print_memory(s, config, plan);
  print_bytes(config, plan);
  fmt::print("\nschedule          {} with {} microbatches\n{}\n", config.schedule,
             config.microbatches,
             to_grid(make_schedule(config.schedule, config.pipeline, config.microbatches)));
  if (s.devices.timing.measured) {
    fmt::print("step time         devices.timing is \"measured\": known after the run\n");
    return kDone;
  }
  print_devices(s, header, plan.step);
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
