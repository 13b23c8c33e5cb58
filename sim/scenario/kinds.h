// The kinds of value that scenario fields have: numbers in ranges, words, quantities, lists, and
// objects in alternatives. Each is one function that returns a Kind: how to read, check, write and
// describe such a value.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>

#include "sim/scenario/fields.h"
#include "sim/scenario/quantity.h"

namespace strait::scenario {

// What a word means in C++; `help` is for the reference.
template <class E>
struct Choice {
  std::string name;
  E value;
};

struct Range {
  double low = 0, high = 0;
  bool low_open = false, high_open = false;  // whether the bound itself is excluded

  bool contains(double x) const {
    return (low_open ? x > low : x >= low) && (high_open ? x < high : x <= high);
  }
  std::string form() const;
  Json schema() const;
};

Kind<double> number(Range range);
// A text that is not empty and holds no control characters. `form` as in `a path`.
Kind<std::string> text(std::string form);
// One of the names.
Kind<std::string> name_of(std::vector<std::string> names);
Kind<bool> boolean();

// The whole number that `json` is, also where it is written as 1e3 or 8.0 (up to 2^53); no value
// otherwise, or outside V.
template <class V>
std::optional<V> whole_number(const Json& json) {
  if (json.is_number_unsigned()) {
    const auto value = json.template get<uint64_t>();
    return std::in_range<V>(value) ? std::optional<V>(static_cast<V>(value)) : std::nullopt;
  }
  int64_t value = 0;
  if (json.is_number_integer()) {
    value = json.template get<int64_t>();
  } else if (json.is_number_float()) {
    constexpr double exact = 9007199254740992.0;
    const double real = json.template get<double>();
    if (std::abs(real) > exact || real != std::floor(real)) return std::nullopt;
    value = static_cast<int64_t>(real);
  } else {
    return std::nullopt;
  }
  return std::in_range<V>(value) ? std::optional<V>(static_cast<V>(value)) : std::nullopt;
}

template <class V>
Kind<V> integer(V low, V high, const std::string& form = "") {
  KindInfo info;
  info.form = !form.empty() ? form
              : low == high ? fmt::format("{}", low)
              : high == std::numeric_limits<V>::max()
                  ? fmt::format("a whole number from {}", low)
                  : fmt::format("a whole number from {} to {}", low, high);
  info.schema = {{"type", "integer"}, {"minimum", low}, {"maximum", high}};
  return {info,
          [low, high, form = info.form](const Json& json, V& value, Reader& reader) {
            const auto whole = whole_number<V>(json);
            if (!whole || *whole < low || *whole > high) return reader.wrong_type(json, form);
            value = *whole;
            return true;
          },
          [](const V& value, WriteScope) { return Json(value); }};
}

std::string word_list(const std::vector<std::string>& words);  // `"a", "b" or "c"`
bool read_word(const Json& json, const std::vector<std::string>& words, std::string& word,
               Reader& reader);

template <class E>
Kind<E> one_of(std::vector<Choice<E>> choices) {
  std::vector<std::string> words;
  for (const auto& choice : choices) words.push_back(choice.name);
  KindInfo info{word_list(words), {{"enum", words}}, {}, false};
  return {std::move(info),
          [choices, words](const Json& json, E& value, Reader& reader) {
            std::string word;
            if (!read_word(json, words, word, reader)) return false;
            for (const auto& choice : choices)
              if (choice.name == word) value = choice.value;
            return true;
          },
          [choices](const E& value, WriteScope) {
            for (const auto& choice : choices)
              if (choice.value == value) return Json(choice.name);
            return Json();  // unreachable: every enumerator has its word
          }};
}

// Checks and converts a quantity's text; used by quantity<Q>().
std::optional<uint64_t> read_quantity(const Json& json, Dimension dimension,
                                      const std::string& form, Reader& reader);

// A quantity from `low` to `high`. `word` (e.g. "auto"), where not empty, stands for zero, which
// then has no other text.
template <class Q>
Kind<Q> quantity(Dimension dimension, Q low, Q high, const std::string& word = "") {
  const auto base = [](Q q) { return static_cast<uint64_t>(q.count); };
  std::string form = quantity_form(dimension);
  if (!word.empty()) form = fmt::format("\"{}\" or {}", word, form);
  const std::string bounds = fmt::format("{} to {}", format(low), format(high));
  Json schema = {{"type", "string"}, {"pattern", quantity_pattern(dimension)}};
  if (!word.empty()) {
    Json constant = {{"const", word}};
    schema = {{"anyOf", Json::array({std::move(constant), std::move(schema)})}};
  }
  KindInfo info{fmt::format("{}, {}", form, bounds), std::move(schema), {}, false};
  return {info,
          [=, form = info.form](const Json& json, Q& value, Reader& reader) {
            if (!word.empty() && json == word) {
              value = Q{};
              return true;
            }
            const auto count = read_quantity(json, dimension, form, reader);
            if (!count) return false;
            if (*count < base(low) || *count > base(high)) return reader.wrong_type(json, form);
            value = Q{static_cast<decltype(Q::count)>(*count)};
            return true;
          },
          [word](const Q& value, WriteScope) {
            return !word.empty() && value.count == 0 ? Json(word) : Json(format(value));
          }};
}

Kind<BitsPerSecond> bandwidth();               // 1kbps to 100Tbps
Kind<Nanoseconds> duration(Nanoseconds high);  // 0ns to high
Kind<Bytes> size(Bytes low, Bytes high, const std::string& word = "");

// A list of `low` to `high` elements.
template <class V>
Kind<std::vector<V>> list_of(Kind<V> element, size_t low = 0, size_t high = max_document_bytes) {
  KindInfo info;
  const bool bounded = high < max_document_bytes;
  const std::string length = low > 0 && bounded ? fmt::format(" of {} to {}", low, high)
                             : low > 0          ? fmt::format(" of at least {}", low)
                             : bounded          ? fmt::format(" of at most {}", high)
                                                : "";
  info.form = fmt::format("a list{}, each {}", length, element.info.form);
  info.schema = {{"type", "array"}, {"items", element.info.schema}};
  if (low > 0) info.schema["minItems"] = low;
  if (bounded) info.schema["maxItems"] = high;
  info.objects = element.info.objects;
  info.list = true;
  return {info,
          [=, form = info.form](const Json& json, std::vector<V>& value, Reader& reader) {
            if (!json.is_array() || json.size() < low || json.size() > high)
              return reader.wrong_type(json, form);
            value.assign(json.size(), V{});
            bool good = true;
            for (size_t i = 0; i < json.size(); ++i) {
              const Reader::Scope scope(reader, std::to_string(i));
              V read_value{};
              good = element.read(json[i], read_value, reader) && good;
              value[i] = read_value;
            }
            return good;
          },
          [element](const std::vector<V>& value, WriteScope scope) {
            Json json = Json::array();
            for (const V& item : value) json.push_back(element.write(item, scope));
            return json;
          }};
}

// Two values in a list.
template <class V>
Kind<std::array<V, 2>> pair_of(Kind<V> element) {
  const auto list = list_of(element, 2, 2);
  KindInfo info = list.info;
  info.form = fmt::format("a list of two, each {}", element.info.form);
  return {info,
          [list, form = info.form](const Json& json, std::array<V, 2>& value, Reader& reader) {
            if (!json.is_array() || json.size() != 2) return reader.wrong_type(json, form);
            std::vector<V> items;
            if (!list.read(json, items, reader)) return false;
            value = {items[0], items[1]};
            return true;
          },
          [list](const std::array<V, 2>& value, WriteScope scope) {
            return list.write({value[0], value[1]}, scope);
          }};
}

// One element, or a list of at least one; written as it is shortest.
template <class V>
Kind<std::vector<V>> one_or_list(Kind<V> element) {
  const auto list = list_of(element, 1);
  KindInfo info{fmt::format("{}, or a list of them", element.info.form),
                {{"anyOf", {element.info.schema, list.info.schema}}},
                {},
                false};
  return {info,
          [=, form = info.form](const Json& json, std::vector<V>& value, Reader& reader) {
            if (json.is_array()) return list.read(json, value, reader);
            value.assign(1, V{});
            return element.read(json, value[0], reader);
          },
          [=](const std::vector<V>& value, WriteScope scope) {
            return value.size() == 1 ? element.write(value[0], scope) : list.write(value, scope);
          }};
}

// A kind of T that reads and writes one member of it; `then` completes the object.
template <class T, class Member, class V>
Kind<T> through(Member member, Kind<V> kind, std::function<void(T&)> then) {
  return {kind.info,
          [=](const Json& json, T& value, Reader& reader) {
            if (!kind.read(json, std::invoke(member, value), reader)) return false;
            then(value);
            return true;
          },
          [=](const T& value, WriteScope scope) {
            return kind.write(std::invoke(member, value), scope);
          }};
}

// The fixed text `word`, which `then` turns into a value.
template <class T>
Kind<T> word(std::string name, std::function<void(T&)> then) {
  const std::vector<std::string> words = {name};
  return {{word_list(words), {{"const", name}}, {}, false},
          [=](const Json& json, T& value, Reader& reader) {
            std::string found;
            if (!read_word(json, words, found, reader)) return false;
            then(value);
            return true;
          },
          [name](const T&, WriteScope) { return Json(name); }};
}

// A plain value or an object, told apart by the JSON type; `is_plain` says how a value is written.
template <class T>
Kind<T> plain_or_object(Kind<T> plain, Kind<T> object, std::function<bool(const T&)> is_plain) {
  KindInfo info{fmt::format("{} or {}", plain.info.form, object.info.form),
                {{"anyOf", {plain.info.schema, object.info.schema}}},
                object.info.objects,
                false};
  return {info,
          [=, form = info.form](const Json& json, T& value, Reader& reader) {
            if (json.is_object()) return object.read(json, value, reader);
            if (json.is_string()) return plain.read(json, value, reader);
            return reader.wrong_type(json, form);
          },
          [=](const T& value, WriteScope scope) {
            return is_plain(value) ? plain.write(value, scope) : object.write(value, scope);
          }};
}

// One alternative of a tagged object: {"method": name, ...the table's fields}.
template <class T>
struct Alternative {
  std::string name;
  std::function<void(T&)> select;          // makes a value of this alternative
  std::function<bool(const T&)> selected;  // whether a value is of it
  Object<T> table;
};

// An object whose `tag` says which table its other keys follow; the first alternative is the
// default.
template <class T>
Kind<T> tagged(const std::string& tag, const std::string& help,
               std::vector<Alternative<T>> alternatives) {
  std::vector<std::string> names;
  for (const auto& alternative : alternatives) names.push_back(alternative.name);
  Json schemas = Json::array();
  Objects objects;
  for (size_t i = 0; i < alternatives.size(); ++i) {
    Object<T>& table = alternatives[i].table;
    FieldInfo field{tag, help, {fmt::format("\"{}\"", names[i]), {{"const", names[i]}}, {}, false}};
    if (i == 0) field.fallback = names[0];
    field.required = i != 0;
    table.prepend_constant(std::move(field), names[i]);
    schemas.push_back(table.info()->schema());
    objects.push_back(table.info());
  }
  std::map<std::string, std::vector<std::string>> owners;
  for (const auto& alternative : alternatives)
    for (const std::string& key : alternative.table.info()->keys())
      owners[key].push_back(alternative.name);
  for (const auto& alternative : alternatives)
    for (const auto& [key, names_of_key] : owners)
      if (alternative.table.info()->find(key) == nullptr)
        alternative.table.info()->foreign[key] = fmt::format("{} {}", tag, word_list(names_of_key));
  KindInfo info{fmt::format("an object whose \"{}\" is {}", tag, word_list(names)),
                {{"oneOf", schemas}},
                objects,
                false,
                true};
  return {info,
          [=, form = info.form](const Json& json, T& value, Reader& reader) {
            if (!json.is_object()) return reader.wrong_type(json, form);
            std::string name = names[0];
            if (const auto member = json.find(tag); member != json.end()) {
              const Reader::Scope scope(reader, tag);
              if (!read_word(*member, names, name, reader)) return false;
            }
            for (const auto& alternative : alternatives) {
              if (alternative.name != name) continue;
              alternative.select(value);
              return alternative.table.read(json, value, reader);
            }
            return false;
          },
          [=](const T& value, WriteScope scope) {
            for (const auto& alternative : alternatives) {
              if (!alternative.selected(value)) continue;
              return alternative.table.write(value, scope);
            }
            return Json();  // unreachable: every value is of one alternative
          }};
}

}  // namespace strait::scenario
