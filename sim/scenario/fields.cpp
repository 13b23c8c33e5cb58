// The type-free half of the table machinery: problems of keys, and JSON Schema of objects.
#include "sim/scenario/fields.h"

#include <algorithm>

namespace strait::scenario {
namespace {

// The dotted path of the object below `object` that has `key`, "" if none or several have it.
// Elements of lists are no place to send a single value to.
std::string place_of(const ObjectInfo& object, const std::string& key) {
  std::set<std::string> places;
  std::vector<const ObjectInfo*> open = {&object};
  while (!open.empty()) {
    const ObjectInfo* current = open.back();
    open.pop_back();
    if (current != &object && current->find(key) != nullptr) places.insert(current->title);
    for (const FieldInfo& field : current->fields)
      if (!field.kind.list)
        for (const auto& child : field.kind.objects) open.push_back(child.get());
  }
  return places.size() == 1 ? *places.begin() : "";
}

}  // namespace

const FieldInfo* ObjectInfo::find(std::string_view key) const {
  for (const FieldInfo& field : fields)
    if (field.key == key) return &field;
  return nullptr;
}

std::vector<std::string> ObjectInfo::keys() const {
  std::vector<std::string> result;
  for (const FieldInfo& field : fields) result.push_back(field.key);
  return result;
}

Json ObjectInfo::schema() const {
  Json properties = Json::object();
  Json required = Json::array();
  for (const FieldInfo& field : fields) {
    Json property = Json::object();
    property["description"] = field.help;
    property.update(field.kind.schema);
    if (field.fallback) property["default"] = *field.fallback;
    properties[field.key] = std::move(property);
    if (field.required) required.push_back(field.key);
  }
  Json result = {
      {"type", "object"}, {"properties", std::move(properties)}, {"additionalProperties", false}};
  if (!required.empty()) result["required"] = std::move(required);
  for (const auto& group : exactly_one) {
    Json choices = Json::array();
    for (const std::string& key : group) choices.push_back({{"required", {key}}});
    result["oneOf"] = std::move(choices);
  }
  result.update(conditions);
  return result;
}

bool Reader::report(std::string found, std::string allowed, std::string nearest) {
  return report_at(path_, std::move(found), std::move(allowed), std::move(nearest));
}

void Reader::missing_key(const FieldInfo& field) {
  report(fmt::format("no key \"{}\"", field.key),
         fmt::format("\"{}\": {}", field.key, field.kind.form));
  const Scope scope(*this, field.key);
  missing_.push_back(to_pointer(path_));
}

bool Reader::report_at(const Path& path, std::string found, std::string allowed,
                       std::string nearest) {
  if (problems_.size() < max_problems)
    problems_.push_back(
        document_.problem(path, std::move(found), std::move(allowed), std::move(nearest)));
  else if (problems_.size() == max_problems)
    problems_.push_back(
        {document_.file, 0, "", "more problems than are listed here", "mend these first", ""});
  return false;
}

void Reader::unknown_key(const ObjectInfo& object, const std::string& key) {
  if (full()) return;
  const Scope scope(*this, key);
  const std::vector<std::string> keys = object.keys();
  const std::string allowed = fmt::format("{}", fmt::join(keys, ", "));
  if (const auto owner = object.foreign.find(key); owner != object.foreign.end()) {
    report(fmt::format("the key {} of {}", in_quotes(key), owner->second), allowed);
    return;
  }
  const std::string nearest = nearest_name(key, keys);
  const std::string place = nearest.empty() ? place_of(*root_, key) : "";
  if (!place.empty())
    report(fmt::format("the unknown key {}, which belongs into \"{}\"", in_quotes(key), place),
           allowed);
  else
    report("the unknown key " + in_quotes(key), allowed, nearest);
}

bool Reader::troubled(const std::string& pointer) const {
  const auto leads_to = [](const std::string& above, const std::string& below) {
    return below.starts_with(above) && (below.size() == above.size() || below[above.size()] == '/');
  };
  const auto touches = [&](const std::string& other) {
    return !other.empty() && (leads_to(other, pointer) || leads_to(pointer, other));
  };
  return std::any_of(missing_.begin(), missing_.end(), touches) ||
         std::any_of(problems_.begin(), problems_.end(),
                     [&](const Problem& problem) { return touches(problem.pointer); });
}

}  // namespace strait::scenario
