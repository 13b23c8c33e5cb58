// Scenarios: any text ends in a scenario or in problems, never in an exception; what is accepted, written out and read again is the
// same scenario with the same hash. Input: the file, and after each zero byte one override as --set takes it.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "sim/scenario/scenario.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace strait::scenario;
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  std::vector<std::string> parts;
  for (;;) {
    const size_t end = rest.find('\0');
    parts.emplace_back(rest.substr(0, end));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
  const std::string text = parts.front();
  parts.erase(parts.begin());
  const Result result = parse_scenario(text, "fuzz.json", parts);
  if (!result.ok()) {
    if (result.problems.empty() || result.text().empty()) std::abort();
    return 0;
  }
  const std::string written = to_json(*result.scenario).dump();
  const Result again = parse_scenario(written, "fuzz.json");
  if (!again.ok() || to_json(*again.scenario).dump() != written ||
      record_hash(*again.scenario) != record_hash(*result.scenario))
    std::abort();
  return 0;
}
