// Reading simulated times and comparing them (crosscheck.h).
#include "sim/cli/crosscheck.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>
#include <string_view>
#include <tuple>

namespace strait::cli {
namespace {

namespace fs = std::filesystem;

// A CSV file of ours whose cells hold no commas, row by row.
class CsvReader {
 public:
  explicit CsvReader(const fs::path& path) : path_(path), file_(path) {
    if (!file_ || !next()) fail("cannot be read, or is empty");
    for (const std::string_view name : cells_) columns_.emplace_back(name);
  }

  bool next() {
    if (!std::getline(file_, line_)) return false;
    ++number_;
    cells_.clear();
    const std::string_view text = line_;
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      cells_.push_back(text.substr(begin, end - begin));
      begin = end + 1;
    }
    if (!columns_.empty() && cells_.size() != columns_.size())
      fail(fmt::format("{} cells under {} columns", cells_.size(), columns_.size()));
    return true;
  }

  size_t column(const char* name) const {
    const auto found = std::find(columns_.begin(), columns_.end(), name);
    if (found == columns_.end()) fail(fmt::format("has no column {}", name));
    return static_cast<size_t>(found - columns_.begin());
  }

  std::string_view text(size_t column) const { return cells_[column]; }
  template <typename T>
  T number(size_t column) const {
    T value{};
    const std::string_view cell = cells_[column];
    const auto [end, error] = std::from_chars(cell.data(), cell.data() + cell.size(), value);
    if (error != std::errc() || end != cell.data() + cell.size())
      fail(fmt::format("column {}: \"{}\" is no number", columns_[column], cell));
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error(fmt::format("{}, line {}: {}", path_.string(), number_, what));
  }
  fs::path path_;
  std::ifstream file_;
  std::string line_;
  int64_t number_ = 0;
  std::vector<std::string> columns_;
  std::vector<std::string_view> cells_;
};

auto key_of(const MessageTime& m) { return std::tie(m.step, m.from, m.to, m.kind, m.microbatch); }

std::vector<MessageTime> read_messages(const fs::path& path) {
  CsvReader csv(path);
  const size_t step = csv.column("step"), from = csv.column("from"), to = csv.column("to"),
               kind = csv.column("kind"), microbatch = csv.column("microbatch"),
               bytes = csv.column("bytes"), sent = csv.column("sent_s"),
               delivered = csv.column("delivered_s");
  std::vector<MessageTime> messages;
  while (csv.next()) {
    MessageTime m;
    m.step = csv.number<int64_t>(step);
    m.from = csv.number<int>(from);
    m.to = csv.number<int>(to);
    m.kind = csv.text(kind);
    m.microbatch = csv.number<int>(microbatch);
    m.bytes = csv.number<uint64_t>(bytes);
    m.transfer_s = csv.number<double>(delivered) - csv.number<double>(sent);
    messages.push_back(std::move(m));
  }
  // The file is in the order of sending, which depends on the model; among messages of one key it is the sender's own order.
  std::stable_sort(
      messages.begin(), messages.end(),
      [](const MessageTime& a, const MessageTime& b) { return key_of(a) < key_of(b); });
  return messages;
}

std::vector<TargetTime> read_targets(const fs::path& path) {
  std::ifstream file(path);
  const auto json = nlohmann::ordered_json::parse(file, nullptr, false);
  if (!json.is_object() || !json.contains("targets") || !json["targets"].is_array())
    throw std::runtime_error(path.string() + ": not the summary of a simulation");
  std::vector<TargetTime> targets;
  for (const auto& row : json["targets"]) {
    if (row.contains("time_s") && row["time_s"] == "unknown") continue;
    TargetTime t;
    t.loss = row.value("loss", 0.0);
    if (row.contains("time_s") && row["time_s"].is_number()) t.time_s = row["time_s"].get<double>();
    targets.push_back(t);
  }
  return targets;
}

double relative(double model, double reference) {
  if (model == reference) return 0;
  return reference == 0 ? std::numeric_limits<double>::infinity() : model / reference - 1;
}

// The smallest value that at least `share` of all values do not exceed.
double percentile(std::vector<double> values, double share) {
  if (values.empty()) return 0;
  const auto rank = static_cast<size_t>(std::ceil(share * static_cast<double>(values.size())));
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(std::max<size_t>(rank, 1) - 1);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

Spread spread_of(const std::vector<double>& differences) {
  std::vector<double> sizes(differences.size());
  std::transform(differences.begin(), differences.end(), sizes.begin(),
                 [](double d) { return std::abs(d); });
  Spread s;
  if (sizes.empty()) return s;
  s.median = percentile(sizes, 0.5);
  s.percentile95 = percentile(sizes, 0.95);
  s.worst_index = static_cast<size_t>(std::max_element(sizes.begin(), sizes.end()) - sizes.begin());
  s.worst = sizes[s.worst_index];
  return s;
}

bool ahead(const std::optional<double>& a, const std::optional<double>& b) {
  return a && (!b || *a < *b);
}

}  // namespace

double ModelTimes::later_steps_s() const {
  if (steps.size() < 2) return first_step_s();
  return std::accumulate(steps.begin() + 1, steps.end(), 0.0) /
         static_cast<double>(steps.size() - 1);
}

double ModelTimes::run_s() const { return std::accumulate(steps.begin(), steps.end(), 0.0); }

ModelTimes read_times(const fs::path& directory, const std::string& model) {
  ModelTimes times;
  times.model = model;
  times.messages = read_messages(directory / "messages.csv");
  times.targets = read_targets(directory / "summary.json");
  CsvReader steps(directory / "steps.csv");
  const size_t column = steps.column("step_s");
  while (steps.next()) times.steps.push_back(steps.number<double>(column));
  return times;
}

Disagreement disagreement(const ModelTimes& model, const ModelTimes& reference) {
  if (model.messages.size() != reference.messages.size() ||
      model.steps.size() != reference.steps.size())
    throw std::invalid_argument(fmt::format(
        "{} holds {} steps and {} messages, {} holds {} and {}", model.model, model.steps.size(),
        model.messages.size(), reference.model, reference.steps.size(), reference.messages.size()));
  std::vector<double> messages, steps;
  for (size_t i = 0; i < model.messages.size(); ++i) {
    if (key_of(model.messages[i]) != key_of(reference.messages[i]))
      throw std::invalid_argument(
          fmt::format("{} and {} hold different messages", model.model, reference.model));
    messages.push_back(relative(model.messages[i].transfer_s, reference.messages[i].transfer_s));
  }
  for (size_t i = 0; i < model.steps.size(); ++i)
    steps.push_back(relative(model.steps[i], reference.steps[i]));
  Disagreement d;
  d.messages = spread_of(messages);
  d.steps = spread_of(steps);
  d.message_bias = percentile(messages, 0.5);
  d.step_bias = relative(model.later_steps_s(), reference.later_steps_s());
  return d;
}

std::vector<size_t> order_of(const std::vector<std::optional<double>>& values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return ahead(values[a], values[b]); });
  return order;
}

std::vector<std::pair<size_t, size_t>> changed_places(const std::vector<std::optional<double>>& a,
                                                      const std::vector<std::optional<double>>& b) {
  std::vector<std::pair<size_t, size_t>> pairs;
  for (size_t i = 0; i < a.size(); ++i)
    for (size_t j = i + 1; j < a.size(); ++j)
      if ((ahead(a[i], a[j]) && ahead(b[j], b[i])) || (ahead(a[j], a[i]) && ahead(b[i], b[j])))
        pairs.emplace_back(i, j);
  return pairs;
}

}  // namespace strait::cli
