// training.phases: the scenario as it is from a phase on, made by the same overrides that "--set" uses, and so checked the same.
#include <algorithm>

#include "sim/scenario/scenario.h"
#include "sim/scenario/tables.h"

namespace strait::scenario {

const std::vector<std::string>& phase_paths() {
  static const std::vector<std::string> paths = {"model.context",         "training.batch",
                                                 "training.microbatches", "training.optimizer",
                                                 "compression.pipeline",  "compression.context"};
  return paths;
}

Result phase_scenario(const Scenario& scenario, size_t count) {
  Json document = to_json(scenario);
  document["training"].erase("phases");
  Result result;
  for (size_t i = 0; i < count; ++i) {
    const std::string pointer = fmt::format("/training/phases/{}/set", i);
    std::vector<std::string> assignments;
    for (const auto& [path, value] : scenario.training.phases.at(i).set.items())
      assignments.push_back(path + "=" + value.dump());
    std::vector<Problem> problems = apply_overrides(document, assignments);
    if (problems.empty() && i + 1 == count) {
      result = parse_scenario(document.dump(), "");
      problems = std::move(result.problems);
      result.problems.clear();
    }
    for (Problem& problem : problems) {
      problem.file.clear();
      problem.line = 0;
      problem.found = fmt::format("{} (at {})", problem.found, problem.pointer);
      problem.pointer = pointer;
      result.problems.push_back(std::move(problem));
    }
    if (!result.problems.empty()) return result;
  }
  if (count == 0) return parse_scenario(document.dump(), "");
  return result;
}

}  // namespace strait::scenario
