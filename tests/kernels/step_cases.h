// The cases of the ops that matrix optimizers are made of (cases.h says how to read them).
#pragma once

#include "tests/kernels/cases.h"

namespace strait::testing {

inline std::vector<Case> combine_cases() {
  std::vector<Case> cases;
  for (int64_t n : {int64_t{1}, int64_t{77}, int64_t{17000}})
    for (int kinds = 0; kinds < 4; ++kinds)
      for (int form : {0, 1, 2, 3})  // y apart, y = x, y = z where it can be, no z
        cases.push_back(
            {Op::combine, text("combine n kinds form", {n, kinds, form}), [=](Runner& r) {
               const Kind kind = kinds & 1 ? Kind::statistic : Kind::element,
                          z_kind = kinds & 2 ? Kind::statistic : Kind::element;
               const Tolerance tolerance = kind == Kind::element ? kElementwise : kStatistic;
               const Tensor x = r.input({n}, kind), z = r.input({n}, z_kind);
               const Tensor y = form == 1                     ? r.watch("y", x, tolerance)
                                : form == 2 && kind == z_kind ? r.watch("y", z, tolerance)
                                                              : r.output("y", {n}, kind, tolerance);
               r.ops.combine(y, 0.3, x, -1.7, form == 3 ? Tensor{} : z);
             }});
  return cases;
}

inline std::vector<Case> normalise_cases() {
  std::vector<Case> cases;
  for (int64_t n : {int64_t{1}, int64_t{77}, int64_t{17000}})
    for (Kind kind : {Kind::element, Kind::statistic})
      for (double squares : {0.0, 9.0})
        for (bool in_place : {false, true})
          cases.push_back(
              {Op::normalise,
               text("normalise n kind squares in_place",
                    {n, kind == Kind::element, static_cast<int64_t>(squares), in_place}),
               [=](Runner& r) {
                 const Tolerance tolerance = kind == Kind::element ? kElementwise : kStatistic;
                 const Tensor x = r.input({n}, kind);
                 const Tensor y =
                     in_place ? r.watch("y", x, tolerance) : r.output("y", {n}, kind, tolerance);
                 // Nothing by nothing is nothing.
                 r.ops.normalise(y, x, r.input({1}, Kind::f64, std::vector<double>{squares}), 1.01,
                                 squares > 0 ? 1e-3 : 0.0);
               }});
  return cases;
}

inline std::vector<Case> momentum_cases() {
  std::vector<Case> cases;
  for (int64_t n : {int64_t{1}, int64_t{77}, int64_t{17000}})
    for (bool nesterov : {false, true})
      for (bool one_buffer : {false, true})
        cases.push_back(
            {Op::momentum, text("momentum n nesterov one_buffer", {n, nesterov, one_buffer}),
             [=](Runner& r) {
               const Tensor m = r.output("m", {n}, Kind::statistic, kStatistic, true);
               const Tensor grad = r.input({n}, Kind::statistic);
               const bool shared = one_buffer && r.stored() == DType::f32;
               const Tensor update = shared ? r.watch("update", grad, kElementwise)
                                            : r.output("update", {n}, Kind::element, kElementwise);
               r.ops.momentum(update, m, grad,
                              r.input({1}, Kind::statistic, std::vector<double>{0.5}), 0.95,
                              nesterov);
             }});
  return cases;
}

}  // namespace strait::testing
