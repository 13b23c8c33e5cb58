#include "sim/cli/load.h"

#include "sim/cli/commands.h"
#ifdef STRAIT_WITH_ENGINE
#include <stdexcept>

#include "sim/cli/engine_bridge.h"
#endif

namespace strait::cli {

scenario::Scenario load(const std::string& file, const std::vector<std::string>& set) {
  scenario::Result result = scenario::load_scenario(file, set);
  if (!result.ok()) throw WrongInput{result.text()};
#ifdef STRAIT_WITH_ENGINE
  std::string text;
  for (const scenario::Problem& p :
       scenario::resolve_model(*result.scenario, resolve_shape, file)) {
    if (!text.empty()) text += '\n';
    text += p.text();
  }
  if (!text.empty()) throw WrongInput{text};
  try {
    to_training(*result.scenario, result.scenario->model.preset.empty()
                                      ? 1
                                      : 0);  // an unstated vocabulary is the tokenizer's
  } catch (const std::invalid_argument& e) {
    throw WrongInput{file + ": " + e.what()};
  }
#endif
  return std::move(*result.scenario);
}

}  // namespace strait::cli
