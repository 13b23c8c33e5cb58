// Sweeps: any text ends in points or in problems, never in an exception; the form with its base inline reads as the same sweep. A base
// that is named is always the same small scenario.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "sim/sweep/points.h"
#include "sim/sweep/sweep_file.h"

namespace {

using namespace strait::sweep;

// Every point is a scenario to be parsed: that many cost time, not insight.
bool few_points(const SweepFile& file) {
  size_t points = 1;
  for (const Axis& axis : file.axes) {
    points *= axis.values.size();
    if (points > 64) return false;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const Loader loader = [](const std::string&) -> LoadedText {
    return {
        R"({"model": {"preset": "llama-1m"}, "data": {"corpus": "austen"}, "training": {"steps": 1}})",
        ""};
  };
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const SweepResult result = parse_sweep(text, "fuzz.json", loader);
  if (!result.ok()) {
    if (result.text().empty()) std::abort();
    return 0;
  }
  if (!few_points(result.sweep->file)) return 0;
  const Points points = expand(*result.sweep);
  const std::string inlined = to_json(*result.sweep).dump();
  const SweepResult again = parse_sweep(inlined, "fuzz.json", loader);
  if (!again.ok() || to_json(*again.sweep).dump() != inlined) std::abort();
  if (expand(*again.sweep).points.size() != points.points.size()) std::abort();
  return 0;
}
