#include "sim/cli/load.h"

#include "sim/cli/commands.h"
#ifdef STRAIT_WITH_ENGINE
#include <fmt/format.h>

#include <stdexcept>

#include "sim/cli/engine_bridge.h"
#endif

namespace strait::cli {

scenario::Scenario with_shape(scenario::Scenario scenario,
                              [[maybe_unused]] const std::string& file) {
#ifdef STRAIT_WITH_ENGINE
  std::string text;
  for (const scenario::Problem& p : scenario::resolve_model(scenario, resolve_shape, file)) {
    if (!text.empty()) text += '\n';
    text += p.text();
  }
  if (!text.empty()) throw WrongInput{text};
  try {
    // An unstated vocabulary is the tokenizer's: what depends on it is checked where that is known.
    scenario::Scenario checked = scenario;
    if (!checked.model.vocabulary) checked.compression.match = scenario::Match::none;
    const int vocabulary = checked.model.preset.empty() ? 1 : 0;
    to_training(checked, vocabulary);
    for (size_t i = 0; i < checked.training.phases.size(); ++i) {
      scenario::Result phase = scenario::phase_scenario(checked, i + 1);
      if (!phase.ok()) continue;  // the scenario's own rules, told where phases are checked
      if (!scenario::resolve_model(*phase.scenario, resolve_shape, file).empty()) continue;
      try {
        to_training(*phase.scenario, vocabulary);
      } catch (const std::invalid_argument& e) {
        throw WrongInput{fmt::format("{}: /training/phases/{}: {}", file, i, e.what())};
      }
    }
  } catch (const std::invalid_argument& e) {
    throw WrongInput{file + ": " + e.what()};
  }
#endif
  return scenario;
}

scenario::Scenario load(const std::string& file, const std::vector<std::string>& set) {
  scenario::Result result = scenario::load_scenario(file, set);
  if (!result.ok()) throw WrongInput{result.text()};
  return with_shape(std::move(*result.scenario), file);
}

LoadedSweep load_sweep(const std::string& file) {
  sweep::SweepResult parsed = sweep::load_sweep(file);
  if (!parsed.ok()) throw WrongInput{parsed.text()};
  sweep::Points points = sweep::expand(*parsed.sweep);
  if (!points.problems.empty()) throw WrongInput{points.text()};
  return {std::move(*parsed.sweep), std::move(points.points)};
}

}  // namespace strait::cli
