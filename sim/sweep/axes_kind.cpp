#include "sim/sweep/axes_kind.h"

#include <algorithm>

#include "sim/scenario/kinds.h"
#include "sim/scenario/scenario.h"

namespace strait::sweep {
namespace {

using scenario::in_quotes;
using scenario::Kind;
using scenario::KindInfo;
using scenario::Object;
using scenario::Reader;
using scenario::WriteScope;

using scenario::has_control_characters;

using Assignments = std::vector<std::pair<std::string, Json>>;

// {"path.to.key": value, ...}; whether the paths exist is known where they are applied.
Kind<Assignments> assignments_kind() {
  const std::string form = "an object of dotted paths and their values, at least one";
  return {{form, {{"type", "object"}, {"minProperties", 1}}, {}, false},
          [form](const Json& json, Assignments& set, Reader& reader) {
            if (!json.is_object() || json.empty()) return reader.wrong_type(json, form);
            for (const auto& [path, value] : json.items()) {
              if (path.find('=') != std::string::npos)
                return reader.report("the path " + in_quotes(path), "a dotted path without \"=\"");
              set.emplace_back(path, value);
            }
            return true;
          },
          [](const Assignments& set, WriteScope) {
            Json json = Json::object();
            for (const auto& [path, value] : set) json[path] = value;
            return json;
          }};
}

const Object<AxisValue>& labelled_table() {
  static const Object<AxisValue> table = [] {
    Object<AxisValue> t("axes.NAME[]", "One value of a named axis.");
    t.field("label", &AxisValue::label, scenario::text("a label"), "What the column shows.",
            {.required = true})
        .field("set", &AxisValue::set, assignments_kind(),
               "What the scenario becomes, as `--set` would write it.", {.required = true});
    return t;
  }();
  return table;
}

bool is_labelled(const Json& values) {
  return std::any_of(values.begin(), values.end(), [](const Json& value) {
    return value.is_object() && (value.contains("label") || value.contains("set"));
  });
}

// An axis with plain values is named by a field. Whether a list has an element is known only with
// the base.
bool check_path(const std::string& name, Reader& reader) {
  if (name.find('=') != std::string::npos)
    return reader.report("the path " + in_quotes(name), "a dotted path without \"=\"");
  if (name.find_first_of("0123456789") != std::string::npos) return true;
  Json probe = Json::object();
  const std::vector<std::string> assignment = {name + "=null"};
  const auto problems = scenario::apply_overrides(probe, assignment);
  if (problems.empty()) return true;
  const scenario::Problem& problem = problems.front();
  return reader.report(
      "a path that no scenario has: " + problem.found,
      problem.allowed + "; or, for a named axis, a list of {\"label\", \"set\": {path: value}}",
      problem.nearest);
}

bool read_axis(const std::string& name, const Json& json, Axis& axis, Reader& reader) {
  if (!json.is_array() || json.empty())
    return reader.wrong_type(json, "a list of values, at least one");
  if (json.size() > max_points)
    return reader.report(fmt::format("{} values", json.size()),
                         fmt::format("at most {}", max_points));
  if (name.empty() || has_control_characters(name))
    return reader.report("the name " + in_quotes(name), "a name without control characters");
  axis.name = name;
  axis.labelled = is_labelled(json);
  if (!axis.labelled && !check_path(name, reader)) return false;
  bool good = true;
  for (size_t i = 0; i < json.size(); ++i) {
    const Reader::Scope scope(reader, std::to_string(i));
    AxisValue value;
    if (axis.labelled) {
      good = labelled_table().read(json[i], value, reader) && good;
    } else {
      value.label = value_text(json[i]);
      value.set.emplace_back(name, json[i]);
      if (has_control_characters(value.label))
        good = reader.report("a text with control characters", "a text without");
    }
    axis.values.push_back(std::move(value));
  }
  return good;
}

Json axis_schema() {
  Json labelled = labelled_table().info()->schema();
  Json plain = {
      {"not",
       {{"type", "object"}, {"anyOf", {{{"required", {"label"}}}, {{"required", {"set"}}}}}}}};
  const auto list = [](Json items) {
    return Json{
        {"type", "array"}, {"minItems", 1}, {"maxItems", max_points}, {"items", std::move(items)}};
  };
  return {{"anyOf", {list(std::move(labelled)), list(std::move(plain))}}};
}

// A value or label, or a list of them.
bool read_values(const Json& json, std::vector<std::string>& values, Reader& reader) {
  if (!json.is_array()) {
    values.push_back(value_text(json));
    return true;
  }
  if (json.empty()) return reader.wrong_type(json, "a value or label, or a list of them");
  for (const Json& value : json) values.push_back(value_text(value));
  return true;
}

}  // namespace

Kind<std::vector<Axis>> axes_kind() {
  const std::string form = "an object of axes, at least one";
  KindInfo info{form,
                {{"type", "object"},
                 {"minProperties", 1},
                 {"maxProperties", max_axes},
                 {"additionalProperties", axis_schema()}},
                {},
                false};
  return {std::move(info),
          [form](const Json& json, std::vector<Axis>& axes, Reader& reader) {
            if (!json.is_object() || json.empty()) return reader.wrong_type(json, form);
            if (json.size() > max_axes)
              return reader.report(fmt::format("{} axes", json.size()),
                                   fmt::format("at most {}", max_axes));
            bool good = true;
            for (const auto& [name, values] : json.items()) {
              const Reader::Scope scope(reader, name);
              Axis axis;
              good = read_axis(name, values, axis, reader) && good;
              axes.push_back(std::move(axis));
            }
            return good;
          },
          [](const std::vector<Axis>& axes, WriteScope scope) {
            Json json = Json::object();
            for (const Axis& axis : axes) {
              Json values = Json::array();
              for (const AxisValue& value : axis.values)
                values.push_back(axis.labelled ? labelled_table().write(value, scope)
                                               : value.set.front().second);
              json[axis.name] = std::move(values);
            }
            return json;
          }};
}

Kind<std::vector<Exclusion>> exclude_kind() {
  const std::string form = "a list of objects, each with axes and a value or label (or a list)";
  KindInfo info{form,
                {{"type", "array"},
                 {"maxItems", max_exclusions},
                 {"items", {{"type", "object"}, {"minProperties", 1}}}},
                {},
                false};
  return {std::move(info),
          [form](const Json& json, std::vector<Exclusion>& exclude, Reader& reader) {
            if (!json.is_array()) return reader.wrong_type(json, form);
            if (json.size() > max_exclusions)
              return reader.report(fmt::format("{} entries", json.size()),
                                   fmt::format("at most {}", max_exclusions));
            bool good = true;
            for (size_t i = 0; i < json.size(); ++i) {
              const Reader::Scope scope(reader, std::to_string(i));
              Exclusion exclusion;
              if (!json[i].is_object() || json[i].empty()) {
                good = reader.wrong_type(json[i], "an object of axes, at least one");
                continue;
              }
              for (const auto& [axis, values] : json[i].items()) {
                const Reader::Scope member(reader, axis);
                good = read_values(values,
                                   exclusion.emplace_back(axis, std::vector<std::string>{}).second,
                                   reader) &&
                       good;
              }
              exclude.push_back(std::move(exclusion));
            }
            return good;
          },
          [](const std::vector<Exclusion>& exclude, WriteScope) {
            Json json = Json::array();
            for (const Exclusion& exclusion : exclude) {
              Json row = Json::object();
              for (const auto& [axis, values] : exclusion) row[axis] = values;
              json.push_back(std::move(row));
            }
            return json;
          }};
}

}  // namespace strait::sweep
