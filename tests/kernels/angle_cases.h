// The cases of the ops of angles: bounds on either side of the limit, coefficients at 0 and beyond, dot products within a block and over
// several.
#pragma once

#include "tests/kernels/cases.h"

namespace strait::testing {

inline std::vector<Case> bound_cases() {
  std::vector<Case> cases;
  for (const Bound bound : {Bound::hard, Bound::tanh})
    for (int64_t n : {int64_t{1}, int64_t{77}})
      for (Kind kind : {Kind::element, Kind::statistic})
        for (bool in_place : {false, true}) {
          const std::string what =
              text("kind n in_s in_place",
                   {static_cast<int64_t>(bound), n, kind == Kind::statistic, in_place});
          const Tolerance tolerance = kind == Kind::element ? kElementwise : kStatistic;
          cases.push_back({Op::bound_forward, "bound_forward " + what, [=](Runner& r) {
                             const Tensor x = r.input({n}, kind, 1);
                             r.ops.bound_forward(in_place ? r.watch("y", x, tolerance)
                                                          : r.output("y", {n}, kind, tolerance),
                                                 x, bound, 0.5);
                           }});
          cases.push_back({Op::bound_backward, "bound_backward " + what, [=](Runner& r) {
                             const Tensor x = r.input({n}, kind, 0.4), dy = r.input({n}, kind, 1);
                             r.ops.bound_backward(in_place ? r.watch("dx", dy, tolerance)
                                                           : r.output("dx", {n}, kind, tolerance),
                                                  dy, x, bound, 0.5);
                           }});
        }
  return cases;
}

inline std::vector<Case> rotation_cases() {
  std::vector<Case> cases;
  for (bool derivative : {false, true})
    for (int64_t N : {int64_t{1}, int64_t{19}, int64_t{300}}) {
      for (int64_t J : {int64_t{1}, int64_t{3}, int64_t{13}})
        cases.push_back({Op::rotation_coefficients,
                         text("rotation_coefficients powers N J derivative", {N, J, derivative}),
                         [=](Runner& r) {
                           r.ops.rotation_coefficients(
                               r.output("f", {N, J}, Kind::statistic, kStatistic),
                               r.input({N}, Kind::statistic, 0.7), RotationSeries::powers,
                               derivative);
                         }});
      cases.push_back(
          {Op::rotation_coefficients,
           text("rotation_coefficients plane N derivative", {N, derivative}), [=](Runner& r) {
             std::vector<double> angles = r.random({N}, Kind::statistic, 1.5);
             if (N > 1) angles[1] = 0;
             r.ops.rotation_coefficients(r.output("f", {N, 3}, Kind::statistic, kStatistic),
                                         r.input({N}, Kind::statistic, angles),
                                         RotationSeries::plane, derivative);
           }});
    }
  return cases;
}

inline std::vector<Case> dot_cases() {
  std::vector<Case> cases;
  for (const auto& [N, C] :
       std::vector<std::array<int64_t, 2>>{{1, 1}, {5, 77}, {3, 4096}, {2, 9001}})
    for (int kinds = 0; kinds < 4; ++kinds)
      for (bool accumulate : {false, true})
        cases.push_back(
            {Op::dot_rows, text("dot_rows N C kinds accumulate", {N, C, kinds, accumulate}),
             [=](Runner& r) {
               const auto kind = [kinds](int bit) {
                 return kinds & bit ? Kind::statistic : Kind::element;
               };
               // Rows that point the same way: the error of a sum is relative to the sum of magnitudes.
               std::vector<double> a = r.random({N, C}, kind(1), 1),
                                   b = r.random({N, C}, kind(2), 1);
               for (double& x : a) x = std::abs(x);
               for (double& x : b) x = std::abs(x);
               r.ops.dot_rows(r.output("y", {N}, Kind::statistic, kStatistic, accumulate),
                              r.input({N, C}, kind(1), a), r.input({N, C}, kind(2), b), accumulate);
             }});
  return cases;
}

}  // namespace strait::testing
