// strait-sim: reads a record, finished or while it is being written, and writes the files of its
// run directory. The engine writes down what every rank did; this program says when (design,
// section 1). Exit status: 0 done, 1 the simulation failed, 2 the input is wrong, 130 interrupted.
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "sim/cli/child_process.h"
#include "sim/cli/commands.h"
#include "sim/cli/files.h"
#include "sim/cli/interrupt.h"
#include "sim/network/cost.h"
#include "sim/network/network.h"
#include "sim/record/reader.h"
#include "sim/record/sha256.h"
#include "sim/scenario/devices.h"
#include "sim/scenario/scenario.h"
#include "sim/trace/output_file.h"
#include "sim/trace/replay.h"

namespace strait {
namespace {

using cli::interrupted;
using cli::kDone;
using cli::kFailed;
using cli::kInterrupted;
using cli::kWrongInput;
using cli::WrongInput;

struct Arguments {
  std::string run_directory, scenario, out, reference;
  bool follow = false, progress = false, predict = false;
  double patience = 900;
};

// Standard input is a pipe that the producer of the record holds open; its closing means that no
// more will come. False once it is closed. Waits up to 20 ms.
bool producer_alive() {
  struct pollfd input {
    STDIN_FILENO, POLLIN, 0
  };
  const int ready = ::poll(&input, 1, 20);
  if (ready <= 0) return true;
  char ignored[256];
  const ssize_t got = ::read(STDIN_FILENO, ignored, sizeof ignored);
  return got > 0 || (got < 0 && (errno == EINTR || errno == EAGAIN));
}

std::unique_ptr<sim::Network> make_network(const sim::NetworkConfig& config, int ranks) {
  switch (config.model) {
    case sim::NetworkModel::ideal:
      return sim::make_ideal(config, ranks);
    case sim::NetworkModel::fluid:
      return sim::make_fluid(config, ranks);
    case sim::NetworkModel::packet:
      break;
  }
#ifdef STRAIT_WITH_PACKET
  return sim::make_packet(config, ranks);
#else
  throw WrongInput{
      "/network/model: \"packet\", but this strait-sim was built without ns-3; allowed: \"fluid\", "
      "\"ideal\""};
#endif
}

scenario::Scenario read_scenario(const Arguments& arguments) {
  const std::filesystem::path own =
      std::filesystem::path(arguments.run_directory) / "scenario.json";
  scenario::Result result =
      scenario::load_scenario(arguments.scenario.empty() ? own.string() : arguments.scenario);
  if (!result.ok()) throw WrongInput{result.text()};
  return std::move(*result.scenario);
}

// A record may be replayed under every scenario that would have made the same record.
void check_record_fits(const scenario::Scenario& scenario, const record::RecordHeader& header,
                       const Arguments& arguments) {
  if (scenario.parallel.ranks() != static_cast<int>(header.ranks.size()))
    throw WrongInput{fmt::format("/parallel: {} ranks, but the record holds {}",
                                 scenario.parallel.ranks(), header.ranks.size())};
  if (arguments.scenario.empty() || header.record_hash.empty()) return;
  if (scenario::record_hash(scenario) != header.record_hash)
    throw WrongInput{fmt::format(
        "{}: this scenario would make another record than {} holds; only network, devices.timing, "
        "devices.ranks and output may differ. Run it instead",
        arguments.scenario, arguments.run_directory)};
}

sim::TraceOptions trace_options(const scenario::Scenario& scenario,
                                const std::vector<sim::Device>& devices,
                                const Arguments& arguments) {
  sim::TraceOptions options;
  options.directory = arguments.out;
  switch (scenario.output.messages) {
    case scenario::MessageLog::none:
      options.messages = sim::MessageRows::none;
      break;
    case scenario::MessageLog::first_steps:
      options.messages = sim::MessageRows::first_steps;
      break;
    case scenario::MessageLog::all:
      options.messages = sim::MessageRows::all;
      break;
  }
  options.timeline_first = scenario.output.timeline_steps[0];
  options.timeline_last = scenario.output.timeline_steps[1];
  options.targets = scenario.training.targets;
  options.reference = arguments.reference;
  options.name = scenario.name;
  options.network_model = scenario::model_name(scenario.network.model);
  options.network_preset = scenario.network.preset;
  options.network_seed = scenario.network.seed;
  options.scenario_hash = sha256_hex(scenario::to_json(scenario).dump());
  for (const sim::Device& device : devices) options.devices.push_back(device.description());
  return options;
}

void print_line(const nlohmann::ordered_json& json) {
  fmt::print("{}\n", json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  std::fflush(stdout);
}

// One line a step; `tokens` counts them so far, as steps.csv does.
void print_progress(const sim::StepTiming& step, uint64_t& tokens) {
  tokens += step.log.tokens;
  print_line({{"step", step.log.step},
              {"tokens", tokens},
              {"loss", step.log.loss},  // NaN becomes null
              {"grad_norm", step.log.grad_norm},
              {"time_s", static_cast<double>(step.end.count) / 1e9},
              {"step_s", static_cast<double>(step.step_time().count) / 1e9}});
}

// What the packet model would cost in host time, from the messages of the record's first step.
void print_prediction(const scenario::Scenario& scenario, const record::StepLog& step) {
  Bytes bytes;
  uint64_t messages = 0;
  for (const record::RankLog& rank : step.ranks)
    for (const record::Entry& entry : rank.entries)
      if (const auto* send = std::get_if<record::Send>(&entry.action)) {
        bytes += send->payload + send->sync;
        ++messages;
      }
  const int ranks = static_cast<int>(step.ranks.size());
  const auto seconds = [&](uint64_t steps) {
    return sim::predicted_host_seconds(scenario.network, ranks, Bytes{bytes.count * steps},
                                       messages * steps);
  };
  const auto steps = static_cast<uint64_t>(scenario.training.steps);
  print_line({{"predicted_host_seconds", seconds(steps)},
              {"per_step", seconds(2) - seconds(1)},
              {"steps", steps}});
}

// Opens the record; a follower waits until there is one. Throws RecordError if none has come; null
// if interrupted.
std::unique_ptr<record::RecordReader> open_record(const Arguments& arguments) {
  const auto path = std::filesystem::path(arguments.run_directory) / "record" / "log.strait";
  bool alive = arguments.follow;
  while (alive && !std::filesystem::exists(path) && !interrupted()) alive = producer_alive();
  if (interrupted()) return nullptr;
  return std::make_unique<record::RecordReader>(path.string());
}

// The next frame; a follower waits for it. nullopt if no more will come.
class FrameSource {
 public:
  FrameSource(record::RecordReader& reader, bool follow) : reader_(reader), alive_(follow) {}

  std::optional<record::Frame> next() {
    while (!interrupted()) {
      const bool last_look = !alive_;
      if (std::optional<record::Frame> frame = reader_.next()) return frame;
      if (reader_.finished() || last_look) return std::nullopt;
      alive_ = producer_alive();
    }
    return std::nullopt;
  }

 private:
  record::RecordReader& reader_;
  bool alive_;
};

// The devices of the run. What they are like may depend on the record's first step: the frames read up to it go to `ahead`.
std::vector<sim::Device> devices_of(const scenario::Scenario& scenario,
                                    const record::RecordHeader& header, FrameSource& frames,
                                    std::vector<record::Frame>& ahead) {
  double factor = 1.0;
  if (scenario.devices.timing.link_free_step)
    while (std::optional<record::Frame> frame = frames.next()) {
      ahead.push_back(std::move(*frame));
      const auto* step = std::get_if<record::StepLog>(&ahead.back());
      if (step == nullptr) continue;
      factor = scenario::link_free_factor(scenario, header, *step);
      break;
    }
  return scenario::make_devices(scenario, header, factor);
}

int simulate_run(const Arguments& arguments) {
  const scenario::Scenario scenario = read_scenario(arguments);
  const auto reader = open_record(arguments);
  if (!reader) return kInterrupted;
  FrameSource frames(*reader, arguments.follow);
  const std::optional<record::Frame> first = frames.next();
  if (!first) {
    if (interrupted()) return kInterrupted;
    throw WrongInput{fmt::format("{}/record/log.strait: the record ends before its header",
                                 arguments.run_directory)};
  }
  const auto& header = std::get<record::RecordHeader>(*first);
  check_record_fits(scenario, header, arguments);
  if (arguments.predict) {
    while (std::optional<record::Frame> frame = frames.next())
      if (const auto* step = std::get_if<record::StepLog>(&*frame)) {
        print_prediction(scenario, *step);
        return kDone;
      }
    throw WrongInput{
        fmt::format("{}/record/log.strait: the record holds no step", arguments.run_directory)};
  }
  std::vector<record::Frame> ahead;
  const std::vector<sim::Device> devices = devices_of(scenario, header, frames, ahead);
  const auto network = make_network(scenario.network, static_cast<int>(header.ranks.size()));
  std::filesystem::create_directories(arguments.out);
  const cli::DirectoryLock lock(arguments.out, std::chrono::seconds(30));
  if (!std::filesystem::equivalent(arguments.out, arguments.run_directory))
    sim::write_whole_file((std::filesystem::path(arguments.out) / "scenario.json").string(),
                          scenario::to_json(scenario).dump(2) + "\n");

  uint64_t tokens = 0;
  std::function<void(const sim::StepTiming&)> on_step;
  if (arguments.progress)
    on_step = [&](const sim::StepTiming& step) { print_progress(step, tokens); };
  sim::Replay replay(header, devices, *network, trace_options(scenario, devices, arguments),
                     {.host_seconds = arguments.patience}, on_step);
  for (record::Frame& frame : ahead) replay.accept(std::move(frame));
  while (std::optional<record::Frame> frame = frames.next()) replay.accept(std::move(*frame));
  const nlohmann::ordered_json summary = replay.finish(/*simulate_rest=*/!interrupted());
  if (arguments.progress) print_line({{"summary", summary}});
  if (const auto torn = reader->torn_tail(); torn && !interrupted())
    fmt::print(stderr,
               "strait-sim: the record ends within a frame at byte {}: its writer was stopped; all "
               "steps before are simulated\n",
               *torn);
  return interrupted() ? kInterrupted : kDone;
}

int report(std::string text, int status) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  fmt::print(stderr, "strait-sim: {}\n", text);
  return status;
}

}  // namespace
}  // namespace strait

int main(int argc, char** argv) {
  strait::cli::end_with_parent();
  strait::Arguments arguments;
  CLI::App app("Replays the record of a run over its network and devices and writes its traces.",
               "strait-sim");
  app.add_option("RUN_DIR", arguments.run_directory,
                 "Run directory with scenario.json and record/log.strait")
      ->required();
  app.add_option("--scenario", arguments.scenario,
                 "Resolved scenario to use instead of RUN_DIR/scenario.json");
  app.add_option("--out", arguments.out, "Directory for the traces (default: RUN_DIR)");
  app.add_option("--reference", arguments.reference, "summary.json of a run to compare with");
  app.add_option("--patience", arguments.patience,
                 "Host seconds without a delivery before giving up")
      ->check(CLI::PositiveNumber);
  app.add_flag(
      "--follow", arguments.follow,
      "Keep reading while the record grows, until its footer or the end of standard input");
  app.add_flag("--progress", arguments.progress,
               "One JSON line per step, and one with the summary, on standard output");
  app.add_flag("--predict", arguments.predict,
               "Only predict what the packet model would cost: one JSON line with host seconds");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? strait::kDone : strait::kWrongInput;
  }
  if (arguments.out.empty()) arguments.out = arguments.run_directory;
  strait::cli::note_interrupts();
  std::signal(SIGPIPE,
              SIG_IGN);  // a reader of our progress that has gone away does not end the run
  try {
    return strait::simulate_run(arguments);
  } catch (const strait::WrongInput& error) {
    return strait::report(error.text, strait::kWrongInput);
  } catch (const strait::record::RecordError& error) {
    return strait::report(error.what(), strait::kWrongInput);
  } catch (const std::invalid_argument& error) {  // a network or device that cannot be
    return strait::report(error.what(), strait::kWrongInput);
  } catch (const std::exception& error) {
    return strait::report(error.what(), strait::kFailed);
  }
}
