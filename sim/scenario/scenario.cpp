// Parsing of scenarios: document, overrides, tables, rules; and back to JSON.
#include "sim/scenario/scenario.h"

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "sim/record/sha256.h"
#include "sim/scenario/overrides.h"
#include "sim/scenario/tables.h"

namespace strait::scenario {
namespace {

// Defaults that depend on other fields or on the file.
void derive_defaults(const Document& document, Scenario& scenario) {
  if (scenario.name.empty()) scenario.name = name_of_file(document.file, "scenario");
  if (!document.root.contains(Json::json_pointer("/compression/pipeline/wire")))
    scenario.compression.pipeline.wire = scenario.devices.precision;
  // A chain joins the stages of one copy of the model only.
  if (!document.root.contains(Json::json_pointer("/network/topology")) &&
      scenario.parallel.context * scenario.parallel.data > 1)
    scenario.network.topology = sim::Topology::mesh;
  if (auto& backward = scenario.compression.pipeline.backward;
      backward &&
      !document.root.contains(Json::json_pointer("/compression/pipeline/backward/wire")))
    backward->wire = scenario.compression.pipeline.wire;
}

// Each phase must make a scenario of its own.
void check_phases(const Scenario& scenario, Reader& reader) {
  const std::vector<Phase>& phases = scenario.training.phases;
  for (size_t i = 0; i < phases.size(); ++i) {
    const Path here = {"training", "phases", std::to_string(i)};
    const int64_t least = i == 0 ? 2 : phases[i - 1].at + 1;
    if (phases[i].at < least || phases[i].at > scenario.training.steps) {
      Path at = here;
      at.push_back("at");
      reader.report_at(at, fmt::format("step {}", phases[i].at),
                       fmt::format("{} to {}: after the phase before, at most training.steps",
                                   least, scenario.training.steps));
      return;
    }
    Path set = here;
    set.push_back("set");
    for (const Problem& problem : phase_scenario(scenario, i + 1).problems)
      reader.report_at(set, problem.found, problem.allowed, problem.nearest);
    if (!reader.problems().empty()) return;
  }
}

}  // namespace

Scenario::Scenario() = default;

std::string Result::text() const {
  std::string result;
  for (const Problem& problem : problems) result += problem.text() + "\n";
  return result;
}

Result parse_scenario(std::string_view text, const std::string& file,
                      std::span<const std::string> overrides) {
  Result result;
  auto document = read_document(text, file, result.problems);
  if (!document) return result;
  return parse_document(std::move(*document), overrides, std::move(result.problems));
}

Result parse_document(Document document, std::span<const std::string> overrides,
                      std::vector<Problem> problems) {
  Result result{std::nullopt, std::move(problems)};
  const Object<Scenario>& table = scenario_table();
  apply_overrides(document, overrides, table.info(), result.problems);
  Scenario scenario;
  Reader reader(document, table.info().get());
  if (table.read(document.root, scenario, reader) || document.root.is_object()) {
    derive_defaults(document, scenario);
    check_rules(scenario, reader);
    if (reader.problems().empty() && result.problems.empty()) check_phases(scenario, reader);
  }
  result.problems.insert(result.problems.end(), reader.problems().begin(), reader.problems().end());
  std::stable_sort(result.problems.begin(), result.problems.end(),
                   [](const Problem& a, const Problem& b) { return a.line < b.line; });
  if (result.problems.empty()) result.scenario = std::move(scenario);
  return result;
}

Result load_scenario(const std::string& path, std::span<const std::string> overrides) {
  const LoadedText loaded = load_text(path);
  if (!loaded.text)
    return {std::nullopt, {{path, 0, "", loaded.problem, "a readable scenario file", ""}}};
  return parse_scenario(*loaded.text, path, overrides);
}

Json to_json(const Scenario& scenario) {
  return scenario_table().write(scenario, WriteScope::everything);
}

std::string record_hash(const Scenario& scenario) {
  // The prefix changes when the meaning of a field does.
  return sha256_hex("strait record 1\n" +
                    scenario_table().write(scenario, WriteScope::record).dump());
}

std::vector<Problem> resolve_model(Scenario& scenario, const ModelResolver& resolver,
                                   const std::string& file) {
  std::vector<Problem> problems;
  const auto report = [&](std::string pointer, std::string found, std::string allowed) {
    problems.push_back({file, 0, std::move(pointer), std::move(found), std::move(allowed), ""});
  };
  ModelShape shape;
  try {
    shape = resolver(scenario.model);
  } catch (const std::invalid_argument& error) {
    report("/model", error.what(), "sizes that make a model");
    return problems;
  }
  const Parallel& parallel = scenario.parallel;
  if (parallel.pipeline > shape.layers)
    report("/parallel/pipeline",
           fmt::format("{} stages for {} layers", parallel.pipeline, shape.layers),
           "at most one stage per layer");
  const auto& split = parallel.layers_per_stage;
  const int64_t sum = std::accumulate(split.begin(), split.end(), int64_t{0});
  if (!split.empty() && sum != shape.layers)
    report("/parallel/layers_per_stage",
           fmt::format("{} layers in all for a model of {}", sum, shape.layers),
           "entries that add up to the model's layers");
  if (parallel.context > shape.context)
    report("/parallel/context",
           fmt::format("{} shards of {} tokens", parallel.context, shape.context),
           "at most the model's context");
  for (const CodecSize& size : codec_sizes(scenario.compression.pipeline))
    if (size.value > shape.width)
      report(size.pointer, fmt::format("{} {} for width {}", size.key, size.value, shape.width),
             "at most the model's width");
  if (!problems.empty()) return problems;
  Model& model = scenario.model;
  model.layers = shape.layers;
  model.width = shape.width;
  model.heads = shape.heads;
  model.kv_heads = shape.kv_heads;
  model.head_width = shape.head_width;
  model.ffn_width = shape.ffn_width;
  model.context = shape.context;
  model.rope_theta = shape.rope_theta;
  model.norm_eps = shape.norm_eps;
  return problems;
}

}  // namespace strait::scenario
