#include "sim/cli/simulator.h"

#include <utility>

namespace strait::cli {
namespace {

std::vector<std::string> command(const Simulator::Options& o) {
  std::vector<std::string> c = {sibling_program("strait-sim"), o.run.string(), "--progress"};
  auto option = [&](const char* name, const std::filesystem::path& value) {
    if (value.empty()) return;
    c.emplace_back(name);
    c.push_back(value.string());
  };
  option("--scenario", o.scenario);
  option("--out", o.out);
  option("--reference", o.reference);
  if (o.follow) c.emplace_back("--follow");
  return c;
}

}  // namespace

Simulator::Simulator(const Options& options,
                     std::function<void(const nlohmann::ordered_json&)> on_step)
    : on_step_(std::move(on_step)),
      child_(command(options), [this](const std::string& line) { take(line); }) {}

void Simulator::take(const std::string& line) {
  const auto json = nlohmann::ordered_json::parse(line, nullptr, false);
  if (!json.is_object()) return;
  if (json.contains("summary")) {
    summary_ = json["summary"];
  } else if (json.contains("step")) {
    last_ = json.value("time_s", 0.0);
    if (steps_++ == 0) first_ = last_;
    if (on_step_) on_step_(json);
  }
}

}  // namespace strait::cli
