#include "sim/sweep/replayable.h"

#include <stdexcept>

#include "sim/scenario/tables.h"

namespace strait::sweep {
namespace {

using scenario::Json;
using scenario::ObjectInfo;
using scenario::Objects;
using scenario::WriteScope;

// Leaves at which two values differ, null where there is none; lists are compared as wholes.
void compare(const Json* recorded, const Json* wanted, const std::string& path,
             std::vector<RecordChange>& changes) {
  if (recorded != nullptr && wanted != nullptr && *recorded == *wanted) return;
  if (recorded != nullptr && wanted != nullptr && recorded->is_object() && wanted->is_object()) {
    const auto member = [](const Json& object, const std::string& key) -> const Json* {
      const auto found = object.find(key);
      return found == object.end() ? nullptr : &*found;
    };
    const auto below = [&](const std::string& key) {
      compare(member(*recorded, key), member(*wanted, key), path.empty() ? key : path + "." + key,
              changes);
    };
    for (const auto& item : recorded->items()) below(item.key());
    for (const auto& item : wanted->items())
      if (!recorded->contains(item.key())) below(item.key());
    return;
  }
  const auto text = [](const Json* value) { return value ? value->dump() : "nothing"; };
  changes.push_back({path, text(recorded), text(wanted)});
}

void take_replayable(const Objects& objects, Json& into, const Json& from) {
  for (const auto& object : objects)
    for (const auto& field : object->fields) {
      const auto source = from.find(field.key);
      if (field.replayable) {
        into.erase(field.key);
        if (source != from.end()) into[field.key] = *source;
      } else if (!field.kind.list && source != from.end() && source->is_object() &&
                 into.contains(field.key) && into[field.key].is_object()) {
        take_replayable(field.kind.objects, into[field.key], *source);
      }
    }
}

void collect(const ObjectInfo& object, std::vector<std::string>& paths) {
  const std::string prefix = object.title.empty() ? "" : object.title + ".";
  for (const auto& field : object.fields) {
    if (field.replayable)
      paths.push_back(prefix + field.key);
    else if (!field.kind.list)
      for (const auto& child : field.kind.objects) collect(*child, paths);
  }
}

}  // namespace

std::vector<RecordChange> record_changes(const scenario::Scenario& recorded,
                                         const scenario::Scenario& wanted) {
  const auto& table = scenario::scenario_table();
  std::vector<RecordChange> changes;
  const Json before = table.write(recorded, WriteScope::record);
  const Json after = table.write(wanted, WriteScope::record);
  compare(&before, &after, "", changes);
  return changes;
}

scenario::Scenario with_replayable_fields(const scenario::Scenario& recorded,
                                          const scenario::Scenario& wanted) {
  Json json = scenario::to_json(recorded);
  take_replayable({scenario::scenario_table().info()}, json, scenario::to_json(wanted));
  scenario::Result result = scenario::parse_scenario(json.dump(), "scenario.json");
  if (!result.ok()) throw std::invalid_argument(result.text());
  return std::move(*result.scenario);
}

std::vector<std::string> replayable_paths() {
  std::vector<std::string> paths;
  collect(*scenario::scenario_table().info(), paths);
  return paths;
}

}  // namespace strait::sweep
