// What the tables say about themselves: JSON Schema for editors and other tools, and the field
// reference for readers.
#include <set>

#include "sim/scenario/scenario.h"
#include "sim/scenario/tables.h"

namespace strait::scenario {
namespace {

constexpr std::string_view introduction = R"(# Scenario files

<!-- Generated from the tables in sim/scenario/tables_*.cpp; tests/scenario/generated_test.cpp compares and rewrites it. -->

A scenario is one JSON file (UTF-8; `//` and `/* */` comments are allowed) that holds everything a run needs. Every key has
a default but those marked *required*. A key that is not listed here, a key given twice, and a value outside its range are
errors, all of which are shown at once, each with its line and JSON pointer. The same fields as a JSON Schema, for editors
and other tools: `scenarios/schema/scenario.schema.json`.

**Quantities** are texts with a unit: bandwidths in `bps`, `kbps`, `Mbps`, `Gbps`, `Tbps` (decimal bits per second);
durations in `ns`, `us` (or `µs`), `ms`, `s`; sizes in `B`, `kB`, `MB`, `GB`, `TB` (decimal) and `KiB`, `MiB`, `GiB`, `TiB`
(binary). `"1.5MB"` and `"80 Mbps"` are fine; a number without a unit is an error.

**On the command line**, `--set path.to.key=value` sets a field after the file has been read, for example
`--set network.links.bandwidth=80Mbps` or `--set devices.ranks.0.slowdown=2`; the value `null` removes a key. Setting
`network.preset` drops the file's `links` and `transport`, setting `model.preset` its explicit sizes, setting a compression
`method` the options that the new method does not have; `rank` and `ratio` replace each other. These are applied before all
other assignments.

**R** marks fields that do not determine the record of a run: `strait replay` may change them without training again.
)";

// A text as it stands in a cell of a table.
std::string cell(const std::string& text) {
  std::string result;
  for (const char c : text) {
    if (c == '|') result += '\\';
    result += c;
  }
  return result;
}

std::string default_text(const FieldInfo& field) {
  if (field.required) return "*required*";
  if (field.fallback) return fmt::format("`{}`", field.fallback->dump());
  if (!field.absent.empty()) return field.absent;
  return field.kind.table ? "see below" : "";
}

std::string value_text(const FieldInfo& field) {
  if (!field.kind.table) return field.kind.form;
  return field.kind.objects.size() > 1 ? "an object, by method" : "an object";
}

void write_object(const ObjectInfo& object, std::set<const ObjectInfo*>& written,
                  std::string& out) {
  if (!written.insert(&object).second) return;
  const std::string title = object.title.empty() ? "The file" : fmt::format("`{}`", object.title);
  out += fmt::format("\n## {}\n\n{}\n\n", title, object.help);
  for (const auto& group : object.exactly_one)
    out += fmt::format("Exactly one of `{}` is given.\n\n", fmt::join(group, "`, `"));
  out += "| key | value | default | | meaning |\n| --- | --- | --- | --- | --- |\n";
  for (const FieldInfo& field : object.fields)
    out += fmt::format("| `{}` | {} | {} | {} | {} |\n", field.key, cell(value_text(field)),
                       cell(default_text(field)), field.replayable ? "R" : "", cell(field.help));
  for (const FieldInfo& field : object.fields)
    for (const auto& child : field.kind.objects) write_object(*child, written, out);
}

}  // namespace

Json schema() {
  const ObjectInfo& root = *scenario_table().info();
  Json result = {{"$schema", "https://json-schema.org/draft/2020-12/schema"},
                 {"title", "Strait scenario"},
                 {"description", root.help}};
  result.update(root.schema());
  return result;
}

std::string reference_markdown() {
  std::string out(introduction);
  std::set<const ObjectInfo*> written;
  write_object(*scenario_table().info(), written, out);
  return out;
}

}  // namespace strait::scenario
