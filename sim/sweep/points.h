// The points of a sweep: every combination of axis values that is not left out, in order, each a
// checked scenario with a name that a directory can have.
#pragma once

#include <string>
#include <vector>

#include "sim/scenario/problem.h"
#include "sim/scenario/scenario.h"
#include "sim/sweep/sweep_file.h"

namespace strait::sweep {

struct Point {
  std::string name;                 // "subspace-8x_80Mbps_seed-1": its directory
  std::vector<std::string> labels;  // one an axis
  scenario::Scenario scenario;      // its name is the point's, unless the sweep sets one
};

struct Points {
  std::vector<Point> points;
  std::vector<scenario::Problem> problems;  // then there are no points

  std::string text() const;  // the problems, one a line
};

// Where a value does not fit, the problem points into the sweep file at the axis value that set it.
// All points have the same network model. Shapes of model presets are not resolved.
Points expand(const ParsedSweep& sweep);

// A text as a part of a directory's name: letters, digits, "." and "+"; whatever else becomes "-".
std::string slug(const std::string& text);

}  // namespace strait::sweep
