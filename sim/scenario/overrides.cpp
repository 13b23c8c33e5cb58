// "--set path.to.key=value": paths are checked against the tables, so that a misspelt one is named
// with its nearest.
#include "sim/scenario/overrides.h"

#include <algorithm>

#include "sim/scenario/scenario.h"
#include "sim/scenario/tables.h"

namespace strait::scenario {
namespace {

struct Assignment {
  std::string text;  // as given
  Path path;
  std::string value;
};

// What the tables say about a path: the objects that the last key may be in, and that key's fields
// in them.
struct Place {
  Objects parents;
  std::vector<const FieldInfo*> fields;
  bool element = false;  // the last piece is an index
};

Problem problem(const Assignment& assignment, const Path& path, std::string found,
                std::string allowed, std::string nearest = "") {
  return {"--set " + in_quotes(assignment.text),
          0,
          to_pointer(path),
          std::move(found),
          std::move(allowed),
          std::move(nearest)};
}

std::optional<Assignment> split(const std::string& text, std::vector<Problem>& problems) {
  const auto refuse = [&](std::string found) {
    problems.push_back(
        {"--set " + in_quotes(text), 0, "", std::move(found), "path.to.key=value", ""});
    return std::nullopt;
  };
  const size_t equals = text.find('=');
  if (!valid_utf8(text)) return refuse("a text that is not UTF-8");
  if (equals == std::string::npos) return refuse("no \"=\"");
  Assignment result{text, {}, text.substr(equals + 1)};
  for (size_t i = 0; i <= equals;) {
    const size_t dot = std::min(text.find('.', i), equals);
    result.path.push_back(text.substr(i, dot - i));
    if (result.path.back().empty()) return refuse("an empty key");
    i = dot + 1;
  }
  if (result.path.size() > static_cast<size_t>(max_document_depth))
    return refuse("a path of too many keys");
  return result;
}

bool is_index(const std::string& key) {
  return !key.empty() && key.size() <= 6 &&
         std::all_of(key.begin(), key.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// Follows the path through the tables. No value after reporting a key that is not there.
std::optional<Place> find_place(const Assignment& assignment,
                                const std::shared_ptr<const ObjectInfo>& root,
                                std::vector<Problem>& problems) {
  Place place{{root}, {}, false};
  Objects open = {root};
  bool list = false;
  Path walked;
  for (const std::string& key : assignment.path) {
    walked.push_back(key);
    if (list) {
      if (!is_index(key)) {
        problems.push_back(
            problem(assignment, walked, in_quotes(key), "the index of an element, from 0"));
        return std::nullopt;
      }
      list = false;
      place.element = true;
      continue;
    }
    Place next{open, {}, false};
    std::vector<std::string> keys;
    for (const auto& object : open) {
      for (const std::string& known : object->keys())
        if (std::find(keys.begin(), keys.end(), known) == keys.end()) keys.push_back(known);
      if (const FieldInfo* field = object->find(key)) next.fields.push_back(field);
    }
    if (next.fields.empty()) {
      const std::string allowed = keys.empty() ? "a path that ends one key earlier"
                                               : fmt::format("{}", fmt::join(keys, ", "));
      problems.push_back(problem(assignment, walked, "the unknown key " + in_quotes(key), allowed,
                                 nearest_name(key, keys)));
      return std::nullopt;
    }
    place = next;
    open.clear();
    for (const FieldInfo* field : place.fields)
      open.insert(open.end(), field->kind.objects.begin(), field->kind.objects.end());
    const Json& schema = place.fields.front()->kind.schema;
    list = schema.value("type", "") == "array" || place.fields.front()->kind.list;
  }
  return place;
}

// JSON where it parses as JSON; text otherwise, and for fields that are nothing but text.
Json read_value(const std::string& text, const Place& place) {
  std::vector<Problem> ignored;
  const auto document = read_document(text, "", ignored);
  if (!document || !ignored.empty()) return text;
  const Json& value = document->root;
  const bool textual =
      !place.element && place.fields.front()->kind.schema.value("type", "") == "string";
  return textual && !value.is_string() && !value.is_null() ? Json(text) : value;
}

// Whether a key decides what its neighbours may be or hold: such assignments come first.
bool is_selector(const Assignment& assignment) {
  return assignment.path.back() == "preset" || assignment.path.back() == "method";
}

// Removes the neighbours that a new value of `key` replaces.
void drop_replaced(Json& object, const Path& path, const Place& place, const Json& value) {
  const std::string& key = path.back();
  for (const auto& parent : place.parents)
    for (const auto& group : parent->exactly_one)
      if (std::find(group.begin(), group.end(), key) != group.end())
        for (const std::string& other : group)
          if (other != key) object.erase(other);
  if (path == Path{"network", "preset"})
    for (const char* decided : {"links", "transport"}) object.erase(decided);
  if (path == Path{"model", "preset"})
    for (const char* decided : {"layers", "width", "heads", "kv_heads", "head_width", "ffn_width",
                                "rope_theta", "norm_eps"})
      object.erase(decided);
  // What a method does with gradients is part of it: "none" is the uncompressed one.
  if (path == Path{"compression", "pipeline", "method"}) object.erase("backward");
  for (const auto& parent : place.parents) {
    const Json& schema = parent->find(key) == nullptr ? Json() : parent->find(key)->kind.schema;
    if (!schema.contains("const") || schema["const"] != value) continue;
    std::vector<std::string> foreign;
    for (const auto& [present, unused] : object.items())
      if (parent->find(present) == nullptr) foreign.push_back(present);
    for (const std::string& gone : foreign) object.erase(gone);
  }
}

// Walks to the container of the last key, making objects on the way. Null after reporting an index
// beyond a list's end.
Json* container(Json& root, const Assignment& assignment, std::vector<Problem>& problems) {
  Json* at = &root;
  Path walked;
  for (size_t i = 0;; ++i) {
    const std::string& key = assignment.path[i];
    const bool last = i + 1 == assignment.path.size();
    walked.push_back(key);
    if (at->is_array() && is_index(key)) {
      const size_t index = std::stoul(key);
      if (index > at->size()) {
        problems.push_back(problem(assignment, walked,
                                   fmt::format("index {} of {} elements", index, at->size()),
                                   fmt::format("0 to {}, one past the end to append", at->size())));
        return nullptr;
      }
      if (last) return at;
      if (index == at->size()) at->push_back(Json::object());
      at = &(*at)[index];
      continue;
    }
    if (!at->is_object()) *at = Json::object();
    if (last) return at;
    if (!at->contains(key))
      (*at)[key] = is_index(assignment.path[i + 1]) ? Json::array() : Json::object();
    at = &(*at)[key];
  }
}

void apply(Document& document, const Assignment& assignment, const Place& place,
           std::vector<Problem>& problems) {
  const Json value = read_value(assignment.value, place);
  Json* object = container(document.root, assignment, problems);
  if (object == nullptr) return;
  const std::string& key = assignment.path.back();
  if (object->is_array()) {
    const size_t index = std::stoul(key);
    if (value.is_null()) {
      if (index < object->size()) object->erase(index);
    } else if (index == object->size()) {
      object->push_back(value);
    } else {
      (*object)[index] = value;
    }
  } else if (value.is_null()) {
    object->erase(key);
  } else {
    drop_replaced(*object, assignment.path, place, value);
    (*object)[key] = value;
  }
  document.assigned.emplace_back(assignment.path, assignment.text);
}

}  // namespace

void apply_overrides(Document& document, std::span<const std::string> assignments,
                     const std::shared_ptr<const ObjectInfo>& root,
                     std::vector<Problem>& problems) {
  if (!document.root.is_object()) return;  // a problem of the document, which its reader reports
  std::vector<Assignment> parsed;
  for (const std::string& text : assignments)
    if (auto assignment = split(text, problems)) parsed.push_back(std::move(*assignment));
  // What decides more comes first.
  const auto selectors = std::stable_partition(parsed.begin(), parsed.end(), is_selector);
  std::stable_sort(parsed.begin(), selectors, [](const Assignment& a, const Assignment& b) {
    return a.path.size() < b.path.size();
  });
  for (const Assignment& assignment : parsed)
    if (const auto place = find_place(assignment, root, problems))
      apply(document, assignment, *place, problems);
}

std::vector<Problem> apply_overrides(Json& document, std::span<const std::string> assignments) {
  Document wrapped;
  wrapped.root = document;
  std::vector<Problem> problems;
  if (!document.is_object()) return {{"", 0, "", describe(document), "an object", ""}};
  apply_overrides(wrapped, assignments, scenario_table().info(), problems);
  if (problems.empty()) document = std::move(wrapped.root);
  return problems;
}

}  // namespace strait::scenario
