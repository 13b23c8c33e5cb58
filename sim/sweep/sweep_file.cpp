// The table of a sweep file, and the rules between its keys (sim/sweep/sweep_file.h).
#include "sim/sweep/sweep_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "sim/scenario/kinds.h"
#include "sim/scenario/scenario.h"
#include "sim/sweep/axes_kind.h"
#include "sim/sweep/run_table.h"

namespace strait::sweep {
namespace {

using scenario::in_quotes;
using scenario::Kind;
using scenario::KindInfo;
using scenario::Object;
using scenario::Path;
using scenario::Problem;
using scenario::Reader;
using scenario::WriteScope;

// The path of a scenario file, or a scenario.
Kind<SweepFile> base_kind() {
  const std::string form = "the path of a scenario file, or a scenario";
  Json inline_scenario = {{"type", "object"}};
  inline_scenario["description"] = "A scenario (scenario.schema.json).";
  KindInfo info{form,
                {{"anyOf", {{{"type", "string"}, {"minLength", 1}}, std::move(inline_scenario)}}},
                {},
                false};
  return {std::move(info),
          [form](const Json& json, SweepFile& sweep, Reader& reader) {
            if (json.is_string() && !json.get_ref<const std::string&>().empty())
              sweep.base_path = json.get<std::string>();
            else if (json.is_object())
              sweep.base = json;
            else
              return reader.wrong_type(json, form);
            return true;
          },
          [](const SweepFile& sweep, WriteScope) {
            return sweep.base_path.empty() ? sweep.base : Json(sweep.base_path);
          }};
}

const Object<SweepFile>& sweep_table() {
  static const Object<SweepFile> table = [] {
    const auto itself = [](auto& sweep) -> auto& { return sweep; };
    const auto names = scenario::list_of(scenario::text("the name of an axis"), 2);
    Object<SweepFile> root("", "A grid of runs: a base scenario, and axes along which it changes.");
    root.field("name", &SweepFile::name, scenario::text("a name"), "What the sweep is called.",
               {.absent = "the file's name"})
        .field("base", itself, base_kind(),
               "What all points share: the path of a scenario file, relative to this file, or the "
               "scenario itself.",
               {.required = true})
        .field(
            "axes", &SweepFile::axes, axes_kind(),
            "What changes, in the order of the table; the first axis changes slowest. Each is "
            "the dotted path of a scenario's field with a list of values, or any other name with "
            "a list of {\"label\", \"set\": {path: value}}.",
            {.required = true})
        .field("zip", &SweepFile::zip, scenario::list_of(names),
               "Groups of axes of equal length that go together, first value with first value, "
               "instead of all with all.")
        .field("exclude", &SweepFile::exclude, exclude_kind(),
               "Combinations that are left out: axes with a value or label, or a list of them.");
    return root;
  }();
  return table;
}

const Axis* find_axis(const SweepFile& sweep, const std::string& name) {
  for (const Axis& axis : sweep.axes)
    if (axis.name == name) return &axis;
  return nullptr;
}

std::vector<std::string> axis_names(const SweepFile& sweep) {
  std::vector<std::string> names;
  for (const Axis& axis : sweep.axes) names.push_back(axis.name);
  return names;
}

bool require_axis(const SweepFile& sweep, const Path& path, const std::string& name,
                  Reader& reader) {
  if (find_axis(sweep, name) != nullptr) return true;
  const auto names = axis_names(sweep);
  return reader.report_at(path, in_quotes(name) + ", which is no axis",
                          fmt::format("{}", fmt::join(names, ", ")),
                          scenario::nearest_name(name, names));
}

void check_zip(const SweepFile& sweep, Reader& reader) {
  std::set<std::string> zipped;
  for (size_t g = 0; g < sweep.zip.size(); ++g) {
    const auto& group = sweep.zip[g];
    for (size_t i = 0; i < group.size(); ++i) {
      const Path here = {"zip", std::to_string(g), std::to_string(i)};
      if (!require_axis(sweep, here, group[i], reader)) return;
      if (!zipped.insert(group[i]).second)
        reader.report_at(here, in_quotes(group[i]) + " a second time", "each axis once");
      const size_t first = find_axis(sweep, group[0])->values.size();
      const size_t own = find_axis(sweep, group[i])->values.size();
      if (own != first)
        reader.report_at(here, fmt::format("{} values of {}", own, in_quotes(group[i])),
                         fmt::format("{} values, as many as {} has", first, in_quotes(group[0])));
    }
  }
}

void check_exclude(const SweepFile& sweep, Reader& reader) {
  std::map<std::string, std::set<std::string>> labels;  // by axis
  for (const Axis& axis : sweep.axes)
    for (const AxisValue& value : axis.values) labels[axis.name].insert(value.label);
  for (size_t e = 0; e < sweep.exclude.size(); ++e)
    for (const auto& [name, values] : sweep.exclude[e]) {
      const Path here = {"exclude", std::to_string(e), name};
      if (!require_axis(sweep, here, name, reader)) continue;
      for (const std::string& value : values) {
        if (labels[name].contains(value)) continue;
        if (reader.full()) return;
        std::vector<std::string> known;
        for (const AxisValue& own : find_axis(sweep, name)->values) known.push_back(own.label);
        reader.report_at(here, in_quotes(value) + ", which is no value of this axis",
                         fmt::format("{}", fmt::join(known, ", ")),
                         scenario::nearest_name(value, known));
      }
    }
}

// Two axes that set the same field, or a field below one that a later axis replaces.
void check_conflicts(const SweepFile& sweep, Reader& reader) {
  std::map<std::string, std::string> seen;  // path, axis
  for (const Axis& axis : sweep.axes) {
    std::set<std::string> own;
    for (const AxisValue& value : axis.values)
      for (const auto& [path, unused] : value.set) own.insert(path);
    for (const std::string& path : own) {
      auto other = seen.find(path);
      if (other == seen.end()) {
        other = seen.lower_bound(path + ".");
        if (other == seen.end() || !other->first.starts_with(path + ".")) continue;
      }
      reader.report_at({"axes", axis.name},
                       fmt::format("an axis that sets {}, as {} does", in_quotes(path),
                                   in_quotes(other->second)),
                       "each field set by one axis");
    }
    for (const std::string& path : own) seen.emplace(path, axis.name);
  }
}

void check_axes(const SweepFile& sweep, Reader& reader) {
  const auto& taken = fixed_columns();
  for (const Axis& axis : sweep.axes) {
    const Path here = {"axes", axis.name};
    if (axis.name != "seed" && std::find(taken.begin(), taken.end(), axis.name) != taken.end())
      reader.report_at(
          here, fmt::format("the name {}, which is a column of runs.csv", in_quotes(axis.name)),
          "another name");
    if (axis.name.starts_with("time_to_"))
      reader.report_at(
          here,
          fmt::format("the name {}, which could be a column of runs.csv", in_quotes(axis.name)),
          "a name that does not begin with \"time_to_\"");
    if (axis.name == "seed" && axis.labelled)
      reader.report_at(here, "labelled values for \"seed\"", "seeds, or another name");
    std::set<std::string> labels;
    for (size_t i = 0; i < axis.values.size(); ++i)
      if (!labels.insert(axis.values[i].label).second)
        reader.report_at({"axes", axis.name, std::to_string(i)},
                         fmt::format("{} a second time", in_quotes(axis.values[i].label)),
                         "each value or label once");
  }
  check_conflicts(sweep, reader);
}

// The document of the base scenario; none after reporting why.
std::optional<scenario::Document> base_document(const ParsedSweep& sweep, const Loader& loader,
                                                std::vector<Problem>& problems) {
  const SweepFile& file = sweep.file;
  if (file.base_path.empty()) {
    scenario::Document document;
    document.file = sweep.document.file;
    document.root = file.base;
    const auto lines = sweep.document.lines.children.find("base");
    if (lines != sweep.document.lines.children.end()) document.lines = lines->second;
    return document;
  }
  const std::string path =
      (std::filesystem::path(sweep.document.file).parent_path() / file.base_path).string();
  const LoadedText loaded = loader(path);
  if (!loaded.text) {
    problems.push_back(
        sweep.document.problem({"base"}, fmt::format("{}: {}", in_quotes(path), loaded.problem),
                               "a readable scenario file, its path relative to this file"));
    return std::nullopt;
  }
  const size_t before = problems.size();
  auto document = scenario::read_document(*loaded.text, path, problems);
  return problems.size() == before ? std::move(document) : std::nullopt;
}

}  // namespace

std::string SweepResult::text() const {
  std::string result;
  for (const Problem& problem : problems) result += problem.text() + "\n";
  return result;
}

SweepResult parse_sweep(std::string_view text, const std::string& file, const Loader& loader) {
  SweepResult result;
  auto document = scenario::read_document(text, file, result.problems);
  if (!document) return result;
  ParsedSweep sweep;
  sweep.document = std::move(*document);
  Reader reader(sweep.document, sweep_table().info().get());
  if (sweep_table().read(sweep.document.root, sweep.file, reader)) {
    check_axes(sweep.file, reader);
    check_zip(sweep.file, reader);
    check_exclude(sweep.file, reader);
  }
  result.problems.insert(result.problems.end(), reader.problems().begin(), reader.problems().end());
  if (!result.problems.empty()) return result;
  if (sweep.file.name.empty()) sweep.file.name = scenario::name_of_file(file, "sweep");
  auto base = base_document(sweep, loader, result.problems);
  if (!base) return result;
  sweep.base = std::move(*base);
  result.sweep = std::move(sweep);
  return result;
}

SweepResult load_sweep(const std::string& path) {
  const LoadedText loaded = scenario::load_text(path);
  if (!loaded.text)
    return {std::nullopt, {{path, 0, "", loaded.problem, "a readable sweep file", ""}}};
  return parse_sweep(*loaded.text, path, scenario::load_text);
}

bool looks_like_sweep(const std::string& path) {
  const LoadedText loaded = scenario::load_text(path);
  if (!loaded.text) return false;
  std::vector<Problem> ignored;
  const auto document = scenario::read_document(*loaded.text, path, ignored);
  return document && document->root.is_object() &&
         (document->root.contains("axes") || document->root.contains("base"));
}

Json to_json(const ParsedSweep& sweep) {
  SweepFile file = sweep.file;
  file.base_path.clear();
  file.base = sweep.base.root;
  return sweep_table().write(file, WriteScope::everything);
}

Json schema() {
  const scenario::ObjectInfo& root = *sweep_table().info();
  Json result = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                 {"title", "Strait sweep"},
                 {"description", root.help}};
  result.update(root.schema());
  return result;
}

std::string value_text(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump();
}

}  // namespace strait::sweep
