// Combinations in the order of the axes, the first slowest; overrides as --set applies them; problems
// traced back to the axis value that caused them (sim/sweep/points.h).
#include "sim/sweep/points.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "sim/record/sha256.h"
#include "sim/scenario/tables.h"

namespace strait::sweep {
namespace {

using scenario::Path;
using scenario::Problem;

constexpr size_t max_problems = 100;
constexpr size_t longest_name = 100;

// Which value of each axis a point has.
using Choice = std::vector<size_t>;

// Axes that move together: one that is not zipped, or a group, at the place of its first axis.
std::vector<std::vector<size_t>> groups_of(const SweepFile& sweep) {
  const auto index_of = [&](const std::string& name) {
    return static_cast<size_t>(std::find_if(sweep.axes.begin(), sweep.axes.end(),
                                            [&](const Axis& axis) { return axis.name == name; }) -
                               sweep.axes.begin());
  };
  std::vector<std::vector<size_t>> groups;
  std::set<size_t> placed;
  for (size_t a = 0; a < sweep.axes.size(); ++a) {
    if (placed.contains(a)) continue;
    std::vector<size_t> group = {a};
    for (const auto& names : sweep.zip)
      if (std::find(names.begin(), names.end(), sweep.axes[a].name) != names.end()) {
        group.clear();
        for (const std::string& name : names) group.push_back(index_of(name));
      }
    placed.insert(group.begin(), group.end());
    groups.push_back(std::move(group));
  }
  return groups;
}

bool is_excluded(const SweepFile& sweep, const std::vector<std::string>& labels) {
  return std::any_of(sweep.exclude.begin(), sweep.exclude.end(), [&](const Exclusion& exclusion) {
    return std::all_of(exclusion.begin(), exclusion.end(), [&](const auto& condition) {
      const auto& [name, values] = condition;
      for (size_t a = 0; a < sweep.axes.size(); ++a)
        if (sweep.axes[a].name == name)
          return std::find(values.begin(), values.end(), labels[a]) != values.end();
      return false;
    });
  });
}

std::vector<std::string> labels_of(const SweepFile& sweep, const Choice& choice) {
  std::vector<std::string> labels;
  for (size_t a = 0; a < choice.size(); ++a)
    labels.push_back(sweep.axes[a].values[choice[a]].label);
  return labels;
}

// The grid without what is excluded; empty and a problem where it is too large or nothing is left.
std::vector<Choice> choices_of(const ParsedSweep& sweep, std::vector<Problem>& problems) {
  const SweepFile& file = sweep.file;
  const auto groups = groups_of(file);
  size_t size = 1;
  for (const auto& group : groups) {
    size *= file.axes[group[0]].values.size();
    if (size <= max_points) continue;
    problems.push_back(sweep.document.problem({"axes"},
                                              fmt::format("more than {} points", max_points),
                                              fmt::format("at most {} points", max_points)));
    return {};
  }
  std::vector<Choice> choices;
  for (size_t number = 0; number < size; ++number) {
    Choice choice(file.axes.size());
    size_t rest = number;
    for (auto group = groups.rbegin(); group != groups.rend(); ++group) {
      const size_t length = file.axes[group->front()].values.size();
      for (const size_t axis : *group) choice[axis] = rest % length;
      rest /= length;
    }
    if (!is_excluded(file, labels_of(file, choice))) choices.push_back(std::move(choice));
  }
  if (choices.empty())
    problems.push_back(
        sweep.document.problem({"exclude"}, "nothing left of the grid", "at least one point"));
  return choices;
}

// "80Mbps" for what says by itself what it is, "seed-1" for what does not.
std::string name_part(const Axis& axis, const AxisValue& value) {
  const std::string text = slug(value.label);
  const bool speaks = axis.labelled || value.set.front().second.is_string();
  if (speaks && !text.empty()) return text;
  return slug(axis.name.substr(axis.name.rfind('.') + 1)) + "-" + text;
}

// `taken`: the names so far, and the last number behind each.
std::string name_of(const SweepFile& sweep, const Choice& choice,
                    std::map<std::string, int>& taken) {
  std::string name;
  for (size_t a = 0; a < choice.size(); ++a)
    name += fmt::format("{}{}", a == 0 ? "" : "_",
                        name_part(sweep.axes[a], sweep.axes[a].values[choice[a]]));
  if (name.size() > longest_name)
    name = name.substr(0, longest_name) + "-" + sha256_hex(name).substr(0, 8);
  if (name.front() == '.') name.front() = '-';  // never hidden, never ".."
  const auto [first, is_new] = taken.emplace(name, 1);
  if (is_new) return name;
  std::string unique;
  do {
    unique = fmt::format("{}-{}", name, ++first->second);
  } while (!taken.emplace(unique, 1).second);
  return unique;
}

// An override of a point, and where in the sweep file it comes from.
struct Override {
  std::string text;
  Path source;
};

std::vector<Override> overrides_of(const SweepFile& sweep, const Choice& choice) {
  std::vector<Override> overrides;
  for (size_t a = 0; a < choice.size(); ++a) {
    const Axis& axis = sweep.axes[a];
    for (const auto& [path, value] : axis.values[choice[a]].set) {
      Path source = {"axes", axis.name, std::to_string(choice[a])};
      if (axis.labelled) source.insert(source.end(), {"set", path});
      overrides.push_back({path + "=" + value.dump(), std::move(source)});
    }
  }
  return overrides;
}

// A problem of a point as a problem of the sweep file, or of the base's own file.
Problem trace_back(const ParsedSweep& sweep, const std::vector<Override>& overrides, Problem p) {
  for (const Override& o : overrides) {
    if (p.file != "--set " + scenario::in_quotes(o.text)) continue;
    return sweep.document.problem(o.source, fmt::format("{} (at {})", p.found, p.pointer),
                                  std::move(p.allowed), std::move(p.nearest));
  }
  if (sweep.file.base_path.empty()) p.pointer = "/base" + p.pointer;
  return p;
}

// Collects problems once each, whatever the number of points that have them.
class ProblemBook {
 public:
  void add(Problem problem, const std::string& point, bool of_combination) {
    if (!seen_.emplace(problem.file, problem.pointer, problem.found).second) return;
    if (of_combination) problem.found += fmt::format(" (in point {})", point);
    problems.push_back(std::move(problem));
  }
  bool full() const { return problems.size() >= max_problems; }

  std::vector<Problem> problems;

 private:
  std::set<std::tuple<std::string, std::string, std::string>> seen_;
};

// Points timed by different models are never compared silently.
void check_one_network_model(const ParsedSweep& sweep, const std::vector<Point>& points,
                             ProblemBook& book) {
  const auto model = [](const Point& point) { return point.scenario.network.model; };
  for (const Point& point : points) {
    if (model(point) == model(points.front())) continue;
    Path place = {"axes"};
    for (const Axis& axis : sweep.file.axes)
      for (const AxisValue& value : axis.values)
        for (const auto& [path, unused] : value.set)
          if (path == "network" || path == "network.model") place = {"axes", axis.name};
    book.add(
        sweep.document.problem(
            place,
            fmt::format("the network models {} and {}", scenario::model_name(model(points.front())),
                        scenario::model_name(model(point))),
            "one model a sweep: times of different models do not compare; `strait crosscheck` "
            "shows how far they differ"),
        point.name, false);
    return;
  }
}

}  // namespace

std::string slug(const std::string& text) {
  std::string result;
  for (const char c : text) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                       c == '.' || c == '+';
    if (plain)
      result += c;
    else if (!result.empty() && result.back() != '-')
      result += '-';
  }
  while (!result.empty() && result.back() == '-') result.pop_back();
  return result;
}

std::string Points::text() const {
  std::string result;
  for (const Problem& problem : problems) result += problem.text() + "\n";
  return result;
}

Points expand(const ParsedSweep& sweep) {
  Points result;
  const std::vector<Choice> choices = choices_of(sweep, result.problems);
  const bool base_is_sound = scenario::parse_document(sweep.base, {}).ok();
  ProblemBook book;
  std::map<std::string, int> names;
  for (const Choice& choice : choices) {
    Point point;
    point.name = name_of(sweep.file, choice, names);
    point.labels = labels_of(sweep.file, choice);
    const std::vector<Override> overrides = overrides_of(sweep.file, choice);
    std::vector<std::string> texts;
    bool named = false;
    for (const Override& o : overrides) {
      texts.push_back(o.text);
      named = named || o.text.starts_with("name=");
    }
    scenario::Result parsed = scenario::parse_document(sweep.base, texts);
    for (Problem& problem : parsed.problems) {
      Problem traced = trace_back(sweep, overrides, std::move(problem));
      const bool of_combination = base_is_sound && !traced.pointer.starts_with("/axes");
      book.add(std::move(traced), point.name, of_combination);
    }
    if (book.full()) break;
    if (!parsed.ok()) continue;
    point.scenario = std::move(*parsed.scenario);
    if (!named) point.scenario.name = point.name;
    result.points.push_back(std::move(point));
  }
  if (book.problems.empty()) check_one_network_model(sweep, result.points, book);
  result.problems.insert(result.problems.end(), book.problems.begin(), book.problems.end());
  if (!result.problems.empty()) result.points.clear();
  return result;
}

}  // namespace strait::sweep
