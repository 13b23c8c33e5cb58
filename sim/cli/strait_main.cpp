// `strait`: the command line. Parses arguments, hands over to one file a command, turns exceptions
// into exit statuses.
#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <cstdio>
#include <exception>
#include <functional>

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
      "validate", "Checks scenario files; prints every error with its JSON pointer");
  validate->add_option("FILE", files, "scenario files")->required();
  validate->callback([&] { action = [] { return validate_command(files); }; });

  CLI::App* schema = app.add_subcommand("schema", "Prints the JSON Schema of an input file");
  schema->add_option("WHAT", word, "scenario")->required();
  schema->callback([&] { action = [] { return schema_command(word); }; });

  app.add_subcommand("info", "Backends, methods, presets and versions of this build")
      ->callback([&] { action = info_command; });
#ifdef STRAIT_WITH_ENGINE
  CLI::App* r = app.add_subcommand("run", "Trains a scenario and times it over its network");
  r->add_option("SCENARIO", run.scenario, "scenario file")->required();
  r->add_option("--out", run.out, "run directory (default: runs/NAME)");
  r->add_option("--set", run.set, "path.to.key=value, replaces a field of the scenario")
      ->allow_extra_args(false);
  r->add_option("--steps", run.steps, "replaces training.steps")->check(CLI::PositiveNumber);
  r->add_flag("--quiet", run.quiet, "no progress");
  r->callback([&] { action = [] { return run_command(run); }; });

  CLI::App* show = app.add_subcommand(
      "show", "Resolved scenario, parameters, memory, bytes and predicted time of a step");
  show->add_option("SCENARIO", scenario, "scenario file")->required();
  show->add_option("--set", set, "path.to.key=value, replaces a field of the scenario")
      ->allow_extra_args(false);
  show->callback([&] { action = [] { return show_command(scenario, set); }; });

  CLI::App* corpus = app.add_subcommand("corpus", "The named corpora")->require_subcommand(1);
  corpus->add_subcommand("list", "Names, sizes, and what is in the cache")->callback([&] {
    action = corpus_list_command;
  });
  CLI::App* fetch = corpus->add_subcommand("fetch", "Puts a named corpus into the cache");
  fetch->add_option("NAME", word, "corpus")->required();
  fetch->callback([&] { action = [] { return corpus_fetch_command(word); }; });
#endif
}

}  // namespace

int main(int argc, char** argv) {
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
