// runs.csv: one row a point, in the order of the plan, with nothing of the host in it, so that it is
// the same whoever made it and however often that was interrupted. docs/sweep.md says where each
// column comes from.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "sim/sweep/plan.h"

namespace strait::sweep {

// The columns that every table has but "seed", which may be an axis; an axis cannot be called so.
const std::vector<std::string>& fixed_columns();

// What is known of a point: its summary.json, or why there is none.
struct Outcome {
  nlohmann::ordered_json summary;
  std::string error;
};

class RunTable {
 public:
  // Of all points, `outcomes` those that are there, by index.
  RunTable(const Plan& plan, std::filesystem::path file);

  void set(size_t point, Outcome outcome) { outcomes_[point] = std::move(outcome); }
  const std::optional<Outcome>& outcome(size_t point) const { return outcomes_[point]; }
  size_t known() const;
  size_t failed() const;

  // Writes the rows of all known points; the file is whole at any moment. Throws sim::RunFileError.
  void write() const;

 private:
  const Plan& plan_;
  std::filesystem::path file_;
  std::vector<std::optional<Outcome>> outcomes_;
};

// The summary of a point that is finished: DIRECTORY/summary.json, whole, of this scenario and all of
// its steps. Null otherwise.
nlohmann::ordered_json finished_summary(const std::filesystem::path& directory,
                                        const PlannedPoint& point);

}  // namespace strait::sweep
