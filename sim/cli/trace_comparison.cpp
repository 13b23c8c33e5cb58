// Compares trace files line by line once their bytes differ (trace_comparison.h).
#include "sim/cli/trace_comparison.h"

#include <fmt/format.h>

#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "sim/record/sha256.h"

namespace strait::cli {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string read(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file && !file.eof()) throw std::runtime_error("cannot read " + path.string());
  return text;
}

// What two simulations of one record have in common of a summary.
std::string comparable_summary(const fs::path& path) {
  Json json = Json::parse(read(path), nullptr, false);
  if (!json.is_object()) return "not a JSON object";
  for (const char* key : {"host", "versions", "reference"}) json.erase(key);
  return json.dump(1, ' ', false, Json::error_handler_t::replace);
}

std::vector<std::string> cells(const std::string& line) {
  std::vector<std::string> result;
  std::istringstream stream(line);
  for (std::string cell; std::getline(stream, cell, ',');) result.push_back(cell);
  return result;
}

std::string shortened(const std::string& text) {
  return text.size() <= 60 ? text : text.substr(0, 57) + "...";
}

// In a CSV file the cell, elsewhere the line.
std::string line_difference(const std::string& columns, const std::string& a,
                            const std::string& b) {
  const std::vector<std::string> names = cells(columns), x = cells(a), y = cells(b);
  if (names.size() == x.size() && x.size() == y.size() && names.size() > 1) {
    for (size_t i = 0; i < x.size(); ++i)
      if (x[i] != y[i])
        return fmt::format("{} {}: {} {}, again {}", names[0], x[0], names[i], x[i], y[i]);
  }
  return fmt::format("\"{}\", again \"{}\"", shortened(a), shortened(b));
}

std::string first_difference(const std::string& a, const std::string& b) {
  if (a == b) return "";
  std::istringstream x(a), y(b);
  std::string columns, p, q;
  for (int line = 1;; ++line) {
    const bool more_x = static_cast<bool>(std::getline(x, p));
    const bool more_y = static_cast<bool>(std::getline(y, q));
    if (!more_x && !more_y) return "the end of the last line";
    if (!more_x) return fmt::format("line {}: again there are more lines", line);
    if (!more_y) return fmt::format("line {}: again there are no more lines", line);
    if (line == 1) columns = p;
    if (p != q) return fmt::format("line {}, {}", line, line_difference(columns, p, q));
  }
}

}  // namespace

std::vector<ComparedFile> compare_traces(const fs::path& first, const fs::path& second) {
  std::vector<ComparedFile> files;
  for (const char* name : {"steps.csv", "evals.csv", "ranks.csv", "links.csv", "messages.csv",
                           "diagnostics.csv", "timeline.json", "summary.json"}) {
    if (!fs::exists(first / name)) continue;
    ComparedFile file;
    file.name = name;
    const bool summary = file.name == "summary.json";
    const std::string a = summary ? comparable_summary(first / name) : read(first / name);
    file.first = sha256_hex(a).substr(0, 16);
    if (!fs::exists(second / name)) {
      file.difference = "the simulation does not write this file";
    } else {
      const std::string b = summary ? comparable_summary(second / name) : read(second / name);
      file.second = sha256_hex(b).substr(0, 16);
      file.difference = first_difference(a, b);
    }
    files.push_back(std::move(file));
  }
  return files;
}

}  // namespace strait::cli
