// A sweep as it is written (design, section 5.2): one base scenario, axes along which it is changed,
// axes that go together, combinations that are left out. Declared in a table like a scenario, so
// that parsing, the JSON Schema and the errors come from one place; docs/sweep.md says what the keys
// mean.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "sim/scenario/document.h"
#include "sim/scenario/problem.h"

namespace strait::sweep {

using Json = nlohmann::ordered_json;

// One value of an axis: what it sets, and how the column shows it.
struct AxisValue {
  std::string label;
  std::vector<std::pair<std::string, Json>> set;  // dotted path of a scenario field, its value
};

// An axis is the dotted path of a field with its values, or a name with labelled values.
struct Axis {
  std::string name;
  bool labelled = false;
  std::vector<AxisValue> values;  // at least one
};

// Points where all these axes have one of these values are left out.
using Exclusion = std::vector<std::pair<std::string, std::vector<std::string>>>;

struct SweepFile {
  std::string name;       // "": the file's name
  std::string base_path;  // relative to the sweep file; "" where the base is inline
  Json base;              // the inline scenario; null otherwise
  std::vector<Axis> axes;
  std::vector<std::vector<std::string>> zip;  // names of axes that go together
  std::vector<Exclusion> exclude;
};

// A sweep file as it was read, and the document of its base scenario.
struct ParsedSweep {
  SweepFile file;
  scenario::Document document;  // of the sweep
  scenario::Document base;      // of the scenario: the sweep's own part, or a file of its own
};

struct SweepResult {
  std::optional<ParsedSweep> sweep;
  std::vector<scenario::Problem> problems;

  bool ok() const { return sweep.has_value(); }
  std::string text() const;  // the problems, one a line
};

// Gives the text of the file `path`, or why there is none.
using scenario::LoadedText;
using Loader = std::function<LoadedText(const std::string& path)>;

// Reads a sweep file: its form, the names in "zip" and "exclude", the paths of the axes. What the
// axes make of the base is checked by expand() (points.h). Never throws on any input.
SweepResult parse_sweep(std::string_view text, const std::string& file, const Loader& loader);

// The same from a file, with the base from the disk.
SweepResult load_sweep(const std::string& path);

// Whether a JSON file looks like a sweep rather than a scenario: an object with "axes" or "base".
bool looks_like_sweep(const std::string& path);

// A sweep file of the same meaning whose base is inline: what a sweep directory keeps.
Json to_json(const ParsedSweep& sweep);

// JSON Schema (draft 2020-12) of a sweep file.
Json schema();

// "80Mbps" for texts, JSON otherwise: how a plain value is shown in a column.
std::string value_text(const Json& value);

constexpr size_t max_points = 10'000;
constexpr size_t max_axes = 32;
constexpr size_t max_exclusions = 1'000;

}  // namespace strait::sweep
