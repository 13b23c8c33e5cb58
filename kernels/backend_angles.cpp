// Contract and cost of the ops of kernels/backend.h, section "angles".
#include <fmt/format.h>

#include "kernels/backend.h"
#include "kernels/contract.h"
#include "kernels/cost.h"

namespace strait {
namespace {

void check_limit(const Contract& c, double limit) {
  c.require(limit > 0, fmt::format("limit is {}; it must be positive", limit));
}

}  // namespace

void Backend::bound_forward(Tensor y, Tensor x, Bound bound, double limit) {
  const Contract c(Op::bound_forward, computes(), has_f64());
  const DType t = c.float_type({"y", y});
  c.is({"y", y}, t, y.shape);
  c.is({"x", x}, t, y.shape);
  c.may_be({"y", y}, {"x", x});
  check_limit(c, limit);
  do_bound_forward(y, x, bound, limit);
  book(Op::bound_forward, false, t, 2 * count(y.elements()), bytes_of({y, x}));
}

void Backend::bound_backward(Tensor dx, Tensor dy, Tensor x, Bound bound, double limit) {
  const Contract c(Op::bound_backward, computes(), has_f64());
  const DType t = c.float_type({"dx", dx});
  c.is({"dx", dx}, t, dx.shape);
  c.is({"dy", dy}, t, dx.shape);
  c.is({"x", x}, t, dx.shape);
  c.may_be({"dx", dx}, {"dy", dy});
  c.no_alias({"dx", dx}, {{"x", x}});
  check_limit(c, limit);
  do_bound_backward(dx, dy, x, bound, limit);
  book(Op::bound_backward, false, t, 4 * count(dx.elements()), bytes_of({dx, dy, x}));
}

void Backend::rotation_coefficients(Tensor f, Tensor angle, RotationSeries series,
                                    bool derivative) {
  const Contract c(Op::rotation_coefficients, computes(), has_f64());
  c.rank({"f", f}, 2);
  const DType s = statistics_of(c.float_type({"f", f}));
  c.is({"f", f}, s, f.shape);
  c.is({"angle", angle}, s, {f.size(0)});
  c.no_alias({"f", f}, {{"angle", angle}});
  c.require(series == RotationSeries::powers || f.size(1) == 3,
            fmt::format("f has {} columns; a rotation in a plane has 3", f.size(1)));
  do_rotation_coefficients(f, angle, series, derivative);
  book(Op::rotation_coefficients, false, s, 2 * count(f.elements()), bytes_of({f, angle}));
}

void Backend::dot_rows(Tensor y, Tensor a, Tensor b, bool accumulate) {
  const Contract c(Op::dot_rows, computes(), has_f64());
  c.rank({"a", a}, 2);
  c.rank({"b", b}, 2);
  // T is the narrower of the two: each is T or S.
  const DType of_a = c.float_type({"a", a}), of_b = c.float_type({"b", b}),
              t = of_a == statistics_of(of_b) ? of_b : of_a;
  c.is_either({"a", a}, t, a.shape);
  c.is_either({"b", b}, t, a.shape);
  c.is({"y", y}, statistics_of(t), {a.size(0)});
  c.no_alias({"y", y}, {{"a", a}, {"b", b}});
  do_dot_rows(y, a, b, accumulate);
  book(Op::dot_rows, false, t, 2 * count(a.elements()), written(y, accumulate) + bytes_of({a, b}));
}

}  // namespace strait
