#include "sim/sweep/plan.h"

#include <algorithm>
#include <map>

#include "sim/network/cost.h"
#include "sim/record/sha256.h"
#include "sim/sweep/cache.h"
#include "sim/sweep/replayable.h"

namespace strait::sweep {
namespace {

namespace fs = std::filesystem;

constexpr size_t key_digits = 12;

double replay_seconds(const ResolvedTraining& training, const scenario::Scenario& point) {
  if (point.network.model != sim::NetworkModel::packet) return training.replay_seconds;
  const auto steps = static_cast<uint64_t>(point.training.steps);
  return sim::predicted_host_seconds(point.network, point.parallel.ranks(),
                                     Bytes{training.bytes_per_step * steps},
                                     training.messages_per_step * steps);
}

}  // namespace

double Plan::training_seconds() const {
  double sum = 0;
  for (const PlannedTraining& training : trainings) sum += training.seconds;
  return sum;
}

double Plan::replay_seconds() const {
  double sum = 0;
  for (const PlannedPoint& point : points) sum += point.seconds;
  return sum;
}

std::vector<double> Plan::targets() const {
  std::vector<double> all;
  for (const PlannedPoint& point : points)
    for (const double target : point.scenario.training.targets)
      if (std::find(all.begin(), all.end(), target) == all.end()) all.push_back(target);
  return all;
}

Plan make_plan(const ParsedSweep& sweep, std::vector<Point> points, const Resolver& resolve) {
  Plan plan;
  plan.name = sweep.file.name;
  plan.sweep = to_json(sweep);
  for (const Axis& axis : sweep.file.axes) plan.axes.push_back(axis.name);
  std::vector<ResolvedTraining> resolved;
  std::map<std::string, size_t> by_written, by_hash;  // record hash before and after resolving
  for (Point& point : points) {
    const std::string written = scenario::record_hash(point.scenario);
    if (!by_written.contains(written)) {
      ResolvedTraining training = resolve(point.scenario);
      const std::string hash = scenario::record_hash(training.scenario);
      if (by_hash.emplace(hash, plan.trainings.size()).second) {
        plan.trainings.push_back(
            {hash.substr(0, key_digits), hash, training.data_hash, training.scenario,
             training.cached ? 0 : training.training_seconds, training.cached});
        plan.trainings.back().scenario.name = plan.name;
        resolved.push_back(std::move(training));
      }
      by_written[written] = by_hash.at(hash);
    }
    const size_t index = by_written.at(written);
    PlannedPoint planned;
    planned.name = std::move(point.name);
    planned.labels = std::move(point.labels);
    planned.scenario = with_replayable_fields(resolved[index].scenario, point.scenario);
    planned.scenario_hash = sha256_hex(scenario::to_json(planned.scenario).dump());
    planned.training = index;
    planned.seconds = replay_seconds(resolved[index], planned.scenario);
    plan.points.push_back(std::move(planned));
  }
  return plan;
}

Json to_json(const Plan& plan) {
  Json trainings = Json::array(), points = Json::array();
  for (const PlannedTraining& training : plan.trainings)
    trainings.push_back({{"key", training.key},
                         {"record_hash", training.record_hash},
                         {"data_hash", training.data_hash},
                         {"directory", "trainings/" + training.key}});
  for (const PlannedPoint& point : plan.points) {
    Json labels = Json::object();
    for (size_t a = 0; a < plan.axes.size(); ++a) labels[plan.axes[a]] = point.labels[a];
    points.push_back({{"name", point.name},
                      {"axes", std::move(labels)},
                      {"training", plan.trainings[point.training].key},
                      {"scenario_hash", point.scenario_hash},
                      {"directory", "runs/" + point.name}});
  }
  return {{"name", plan.name},
          {"program", program_identity()},
          {"trainings", std::move(trainings)},
          {"points", std::move(points)}};
}

fs::path SweepDirectory::training(const PlannedTraining& t) const {
  return root / "trainings" / t.key;
}
fs::path SweepDirectory::training_scenario(const PlannedTraining& t) const {
  return root / "trainings" / (t.key + ".json");
}
fs::path SweepDirectory::training_errors(const PlannedTraining& t) const {
  return root / "trainings" / (t.key + ".errors");
}
fs::path SweepDirectory::run(const PlannedPoint& p) const { return root / "runs" / p.name; }
fs::path SweepDirectory::run_errors(const PlannedPoint& p) const { return run(p) / "errors.txt"; }

}  // namespace strait::sweep
