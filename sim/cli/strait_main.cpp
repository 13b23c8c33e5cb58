// `strait`: the command line. Parses arguments, hands over to one file a command, turns exceptions
// into exit statuses.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <functional>

#include "sim/cli/child_process.h"
#include "sim/cli/commands.h"
#include "strait_version.h"

namespace {

using namespace strait::cli;

// What each subcommand does once the arguments are known.
void define(CLI::App& app, std::function<int()>& action) {
  static std::vector<std::string> files, set;
  static std::string word, scenario;
  static RunArguments run;

  CLI::App* validate = app.add_subcommand(
      "validate", "Checks scenario and sweep files; prints every error with its JSON pointer");
  validate->add_option("FILE", files, "scenario and sweep files")->required();
  validate->callback([&] { action = [] { return validate_command(files); }; });

  CLI::App* schema = app.add_subcommand("schema", "Prints the JSON Schema of an input file");
  schema->add_option("WHAT", word, "scenario or sweep")->required();
  schema->callback([&] { action = [] { return schema_command(word); }; });

  app.add_subcommand("info", "Backends, methods, presets and versions of this build")
      ->callback([&] { action = info_command; });
#ifdef STRAIT_WITH_ENGINE
  CLI::App* r = app.add_subcommand("run", "Trains a scenario and times it over its network");
  r->add_option("SCENARIO", run.scenario, "scenario file; with --resume also a run directory")
      ->required();
  r->add_option("--out", run.out, "run directory (default: runs/NAME)");
  r->add_option("--set", run.set, "path.to.key=value, replaces a field of the scenario")
      ->allow_extra_args(false);
  r->add_option("--steps", run.steps, "replaces training.steps")->check(CLI::PositiveNumber);
  r->add_flag("--resume", run.resume, "goes on with an interrupted run");
  r->add_flag("!--no-cache", run.cache, "trains even if this training is finished and kept");
  r->add_flag("--record-only", run.record_only, "trains and writes the record; no simulation");
  r->add_flag("--quiet", run.quiet, "no progress");
  r->callback([&] { action = [] { return run_command(run); }; });

  CLI::App* show = app.add_subcommand(
      "show", "Resolved scenario, parameters, memory, bytes and predicted time of a step");
  show->add_option("SCENARIO", scenario, "scenario file")->required();
  show->add_option("--set", set, "path.to.key=value, replaces a field of the scenario")
      ->allow_extra_args(false);
  show->callback([&] { action = [] { return show_command(scenario, set); }; });

  static CalibrateArguments calibrate;
  CLI::App* c =
      app.add_subcommand("calibrate", "Measures this machine as a device, for devices.timing");
  c->add_option("--backend", calibrate.backend, "auto, cpu or cuda")->capture_default_str();
  c->add_option("--threads", calibrate.threads, "of the cpu backend (default: all)")
      ->check(CLI::PositiveNumber);
  c->add_option("--seconds", calibrate.seconds, "spent on each op")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  c->add_option("--out", calibrate.out, "device file")->capture_default_str();
  c->callback([&] { action = [] { return calibrate_command(calibrate); }; });

  CLI::App* corpus = app.add_subcommand("corpus", "The named corpora")->require_subcommand(1);
  corpus->add_subcommand("list", "Names, sizes, and what is in the cache")->callback([&] {
    action = corpus_list_command;
  });
  CLI::App* fetch = corpus->add_subcommand("fetch", "Puts a named corpus into the cache");
  fetch->add_option("NAME", word, "corpus")->required();
  fetch->callback([&] { action = [] { return corpus_fetch_command(word); }; });
#endif
}

void define_replays(CLI::App& app, std::function<int()>& action) {
  static ReplayArguments replay;
  CLI::App* r = app.add_subcommand(
      "replay", "Times the training of a run over another network or on other devices");
  r->add_option("RUN_DIR", replay.run, "run directory")->required();
  r->add_option("--set", replay.set, "path.to.key=value, replaces a field that a replay may change")
      ->allow_extra_args(false);
  r->add_option("--out", replay.out, "directory (default: a fresh one in RUN_DIR/replays)");
  r->add_flag("--quiet", replay.quiet, "no progress and no table");
  r->callback([&] { action = [] { return replay_command(replay); }; });
#ifdef STRAIT_WITH_ENGINE
  static SweepArguments sweep;
  CLI::App* s = app.add_subcommand(
      "sweep", "A grid of runs: each distinct training once, everything else by replay");
  s->add_option("SWEEP", sweep.sweep, "sweep file")->required();
  s->add_option("--out", sweep.out,
                "sweep directory, new or to be gone on with (default: sweeps/NAME)");
  s->add_option("--jobs", sweep.jobs, "processes at once (default: the cores)")
      ->check(CLI::PositiveNumber);
  s->add_option("--launcher", sweep.launcher, "local, or slurm: as two job arrays")
      ->check(CLI::IsMember({"local", "slurm"}))
      ->capture_default_str();
  s->add_flag("--dry-run", sweep.dry_run, "only prints points, trainings and estimated times");
  s->add_flag("--quiet", sweep.quiet, "no progress");
  s->callback([&] { action = [] { return sweep_command(sweep); }; });
#endif
}

void define_cache(CLI::App& app, std::function<int()>& action) {
  static PruneArguments prune;
  CLI::App* cache = app.add_subcommand("cache", "Finished trainings")->require_subcommand(1);
  cache->add_subcommand("list", "What is there, last used first")->callback([&] {
    action = cache_list_command;
  });
  CLI::App* p = cache->add_subcommand("prune", "Removes trainings");
  p->add_option("--older-than", prune.older_than_days, "DAYS since they were used last")
      ->check(CLI::NonNegativeNumber);
  p->add_option("--keep", prune.keep,
                "SIZE, such as 10GB: removes those used longest ago beyond it");
  p->add_flag("--all", prune.all, "everything");
  p->callback([&] { action = [] { return cache_prune_command(prune); }; });
}

void define_plot(CLI::App& app, std::function<int()>& action) {
  static PlotArguments plot;
  CLI::App* p = app.add_subcommand("plot", "Draws runs and sweeps; their numbers as CSV and LaTeX");
  p->add_option("DIR", plot.directories, "run and sweep directories; several are one comparison")
      ->required();
  p->add_option("--out", plot.out,
                "folder for the figures (default: DIR/plots, or plots for several)");
  p->add_option("--format", plot.format, "svg, png or pdf")
      ->check(CLI::IsMember({"svg", "png", "pdf"}))
      ->capture_default_str();
  p->callback([&] { action = [] { return plot_command(plot); }; });
}

void define_checks(CLI::App& app, std::function<int()>& action) {
  static CrosscheckArguments crosscheck;
#ifdef STRAIT_WITH_PACKET
  crosscheck.models = "ideal,fluid,packet";
#else
  crosscheck.models = "ideal,fluid";
#endif
  CLI::App* c = app.add_subcommand(
      "crosscheck", "The messages of records over several network models: how far these disagree");
  c->add_option("RUN_DIR", crosscheck.runs, "run directories")->required();
  c->add_option("--models", crosscheck.models, "two or three of ideal, fluid, packet")
      ->capture_default_str();
  c->add_option("--steps", crosscheck.steps, "only the first steps of each record")
      ->check(CLI::PositiveNumber);
  c->add_option("--out", crosscheck.out, "directory for crosscheck.csv and crosscheck_steps.csv");
  c->callback([&] { action = [] { return crosscheck_command(crosscheck); }; });
#ifdef STRAIT_WITH_ENGINE
  static VerifyArguments verify;
  CLI::App* v =
      app.add_subcommand("verify", "Trains and simulates a run again and compares every hash");
  v->add_option("RUN_DIR", verify.run, "run directory")->required();
  v->add_flag("--quiet", verify.quiet, "no progress");
  v->callback([&] { action = [] { return verify_command(verify); }; });

  static ExportArguments to;
  CLI::App* e = app.add_subcommand("export", "Writes a trained model in a format that others read");
  e->add_option("RUN_DIR", to.run, "run directory with checkpoints")->required();
  e->add_option("--format", to.format, "safetensors-hf: Hugging Face LLaMA")
      ->default_val("safetensors-hf");
  e->add_option("--checkpoint", to.checkpoint, "step of the checkpoint (default: the newest)")
      ->check(CLI::NonNegativeNumber);
  e->add_option("--out", to.out, "directory (default: RUN_DIR/export)");
  e->callback([&] { action = [] { return export_command(to); }; });
#endif
}

}  // namespace

int main(int argc, char** argv) {
  strait::cli::end_with_parent();
  std::setvbuf(stdout, nullptr, _IOLBF,
               0);  // what was printed has been seen, whatever happens next
  CLI::App app{
      "Strait: trains real models split over simulated machines, and says when everything would "
      "have happened.",
      "strait"};
  app.set_version_flag("--version",
                       std::string("strait " STRAIT_VERSION " (" STRAIT_GIT_COMMIT ")"));
  app.require_subcommand(1);
  std::function<int()> action;
  define(app, action);
  define_replays(app, action);
  define_cache(app, action);
  define_plot(app, action);
  define_checks(app, action);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? kDone : kWrongInput;
  }
  try {
    return action();
  } catch (const WrongInput& e) {
    fmt::print(stderr, "{}\n", e.text);
    return kWrongInput;
  } catch (const std::exception& e) {
    fmt::print(stderr, "strait: {}\n", e.what());
    return kFailed;
  }
}
