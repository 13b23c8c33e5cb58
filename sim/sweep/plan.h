// What a sweep will do: which points share a training (the same hash of everything that determines
// the record), what each costs in host time, and in which directories all of it lies.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "sim/scenario/scenario.h"
#include "sim/sweep/points.h"
#include "sim/sweep/sweep_file.h"

namespace strait::sweep {

// A scenario made ready to train, and what it will cost. Given by the caller, who knows the engine.
struct ResolvedTraining {
  scenario::Scenario scenario;  // shapes, backend and, where the data has been opened, vocabulary
  std::string data_hash;        // as the record's footer has it; "" where it has not been opened
  double training_seconds = 0;  // of one thread's share of the host; 0: unknown
  double replay_seconds = 0;    // fluid and ideal: of one replay; packet: see below
  uint64_t bytes_per_step = 0, messages_per_step = 0;  // what a packet simulation's cost depends on
  bool cached = false;                                 // finished already, in the cache
};
using Resolver = std::function<ResolvedTraining(const scenario::Scenario&)>;

struct PlannedTraining {
  std::string key;  // the beginning of the record hash: its directory
  std::string record_hash, data_hash;
  scenario::Scenario scenario;
  double seconds = 0;  // estimate, 0 where it is cached
  bool cached = false;
};

struct PlannedPoint {
  std::string name;
  std::vector<std::string> labels;
  scenario::Scenario scenario;  // resolved
  std::string scenario_hash;    // as summary.json has it
  size_t training = 0;          // index
  double seconds = 0;           // estimate of its replay
};

struct Plan {
  std::string name;
  Json sweep;  // the sweep file, base inline
  std::vector<std::string> axes;
  std::vector<PlannedPoint> points;
  std::vector<PlannedTraining> trainings;  // in the order of their first points

  double training_seconds() const;
  double replay_seconds() const;
  // Losses of training.targets over all points, in the order in which they are first met.
  std::vector<double> targets() const;
};

// Calls `resolve` once for each training. Throws what it throws.
Plan make_plan(const ParsedSweep& sweep, std::vector<Point> points, const Resolver& resolve);

// plan.json.
Json to_json(const Plan& plan);

// Places in a sweep directory (design, section 5.3). Relative to it but for the first.
struct SweepDirectory {
  std::filesystem::path root;

  std::filesystem::path training(const PlannedTraining& t) const;           // a run directory
  std::filesystem::path training_scenario(const PlannedTraining& t) const;  // beside it
  std::filesystem::path training_errors(const PlannedTraining& t) const;
  std::filesystem::path run(const PlannedPoint& p) const;
  std::filesystem::path run_errors(const PlannedPoint& p) const;
};

}  // namespace strait::sweep
