// Sweeps as texts for the tests of this folder; the base scenario lies in no file but here.
#pragma once

#include <string>

#include "sim/sweep/points.h"
#include "sim/sweep/sweep_file.h"

namespace strait::sweep {

inline const std::string base_text = R"({
  "seed": 1,
  "model": {"preset": "llama-1m"},
  "data": {"corpus": "austen"},
  "training": {"steps": 100, "targets": [5, 4.5]},
  "parallel": {"pipeline": 4},
  "network": {"model": "fluid", "preset": "home-80m"}
})";

inline LoadedText load_base(const std::string& path) {
  if (path == "folder/base.json") return {base_text, ""};
  return {std::nullopt, "a file that cannot be opened"};
}

inline SweepResult parse(const std::string& text) {
  return parse_sweep(text, "folder/sweep.json", load_base);
}

// With `rest` beside "base".
inline SweepResult parse_rest(const std::string& rest) {
  return parse("{\"base\": \"base.json\",\n" + rest + "}");
}

inline Points expand_rest(const std::string& rest) {
  const SweepResult result = parse_rest(rest);
  if (!result.ok()) return {{}, result.problems};
  return expand(*result.sweep);
}

inline const std::string methods = R"("method": [
    {"label": "none", "set": {"compression.pipeline.method": "none"}},
    {"label": "subspace 8x", "set": {"compression.pipeline.method": "subspace", "compression.pipeline.ratio": 8}}])";
inline const std::string bandwidths = R"("network.links.bandwidth": ["80Mbps", "1Gbps"])";

}  // namespace strait::sweep
