// The kinds without a template parameter (see kinds.h).
#include "sim/scenario/kinds.h"

namespace strait::scenario {

std::string Range::form() const {
  if (std::isinf(high)) return fmt::format("a number {} {}", low_open ? "above" : "from", low);
  std::string excluded;
  if (low_open && high_open) excluded = " (both excluded)";
  if (low_open != high_open) excluded = fmt::format(" ({} excluded)", low_open ? low : high);
  return fmt::format("a number from {} to {}{}", low, high, excluded);
}

Json Range::schema() const {
  Json schema = {{"type", "number"}};
  schema[low_open ? "exclusiveMinimum" : "minimum"] = low;
  if (!std::isinf(high)) schema[high_open ? "exclusiveMaximum" : "maximum"] = high;
  return schema;
}

Kind<double> number(Range range) {
  const KindInfo info{range.form(), range.schema(), {}, false};
  return {info,
          [range](const Json& json, double& value, Reader& reader) {
            if (!json.is_number() || !range.contains(json.get<double>()))
              return reader.wrong_type(json, range.form());
            value = json.get<double>();
            return true;
          },
          [](const double& value, WriteScope) { return Json(value); }};
}

Kind<std::string> text(std::string form) {
  const KindInfo info{
      form, {{"type", "string"}, {"pattern", "^[^\\u0000-\\u001f\\u007f]+$"}}, {}, false};
  return {info,
          [form](const Json& json, std::string& value, Reader& reader) {
            if (!json.is_string()) return reader.wrong_type(json, form);
            const auto& found = json.get_ref<const std::string&>();
            if (found.empty() || has_control_characters(found))
              return reader.wrong_type(json, form + ", not empty and without control characters");
            value = found;
            return true;
          },
          [](const std::string& value, WriteScope) { return Json(value); }};
}

Kind<std::string> name_of(std::vector<std::string> names) {
  KindInfo info{word_list(names), {{"enum", names}}, {}, false};
  return {std::move(info),
          [names](const Json& json, std::string& value, Reader& reader) {
            return read_word(json, names, value, reader);
          },
          [](const std::string& value, WriteScope) { return Json(value); }};
}

Kind<bool> boolean() {
  return {{"true or false", {{"type", "boolean"}}, {}, false},
          [](const Json& json, bool& value, Reader& reader) {
            if (!json.is_boolean()) return reader.wrong_type(json, "true or false");
            value = json.get<bool>();
            return true;
          },
          [](const bool& value, WriteScope) { return Json(value); }};
}

std::string word_list(const std::vector<std::string>& words) {
  std::string result;
  for (size_t i = 0; i < words.size(); ++i) {
    if (i > 0) result += i + 1 == words.size() ? " or " : ", ";
    result += fmt::format("\"{}\"", words[i]);
  }
  return result;
}

bool read_word(const Json& json, const std::vector<std::string>& words, std::string& word,
               Reader& reader) {
  if (!json.is_string()) return reader.wrong_type(json, word_list(words));
  const auto& found = json.get_ref<const std::string&>();
  if (std::find(words.begin(), words.end(), found) == words.end())
    return reader.report(describe(json), word_list(words), nearest_name(found, words));
  word = found;
  return true;
}

std::optional<uint64_t> read_quantity(const Json& json, Dimension dimension,
                                      const std::string& form, Reader& reader) {
  if (json.is_number()) {
    const char* unit = dimension == Dimension::bandwidth  ? "Mbps"
                       : dimension == Dimension::duration ? "ms"
                                                          : "B";
    const bool writable = json.is_number_integer() && json >= 0;
    reader.report(fmt::format("{} without a unit", describe(json)),
                  writable ? fmt::format("{} (\"{}{}\"?)", form, json.dump(), unit) : form);
    return std::nullopt;
  }
  if (!json.is_string()) {
    reader.wrong_type(json, form);
    return std::nullopt;
  }
  const ParsedQuantity parsed = parse_quantity(json.get_ref<const std::string&>(), dimension);
  if (!parsed.count)
    reader.report(fmt::format("{} ({})", describe(json), parsed.problem), form, parsed.nearest);
  return parsed.count;
}

Kind<BitsPerSecond> bandwidth() {
  return quantity(Dimension::bandwidth, BitsPerSecond{1'000}, BitsPerSecond{100'000'000'000'000});
}

Kind<Nanoseconds> duration(Nanoseconds high) {
  return quantity(Dimension::duration, Nanoseconds{0}, high);
}

Kind<Bytes> size(Bytes low, Bytes high, const std::string& word) {
  return quantity(Dimension::size, low, high, word);
}

}  // namespace strait::scenario
