// Contracts and costs of the ops that matrix optimizers are made of, as in backend.cpp.
#include <fmt/format.h>

#include "kernels/backend.h"
#include "kernels/contract.h"
#include "kernels/cost.h"

namespace strait {

void Backend::combine(Tensor y, double alpha, Tensor x, double beta, Tensor z) {
  const Contract c(Op::combine, computes(), has_f64());
  const DType t = c.float_type({"y", y});
  c.is({"y", y}, t, y.shape);
  c.is({"x", x}, t, y.shape);
  c.may_be({"y", y}, {"x", x});
  if (z.defined()) {
    c.is({"z", z}, c.float_type({"z", z}), y.shape);
    c.may_be({"y", y}, {"z", z});
  }
  do_combine(y, alpha, x, beta, z);
  book(Op::combine, false, t, (z.defined() ? 3 : 1) * count(y.elements()),
       bytes_of({y, x}) + (z.defined() ? z.bytes() : 0));
}

void Backend::normalise(Tensor y, Tensor x, Tensor sum_squares, double factor, double eps) {
  const Contract c(Op::normalise, computes(), has_f64());
  const DType t = c.float_type({"y", y});
  c.is({"y", y}, t, y.shape);
  c.is({"x", x}, t, y.shape);
  c.is({"sum_squares", sum_squares}, DType::f64, {1});
  c.may_be({"y", y}, {"x", x});
  c.no_alias({"y", y}, {{"sum_squares", sum_squares}});
  c.require(factor > 0 && eps >= 0,
            fmt::format("factor is {} and eps {}; the first must be positive, the second not "
                        "negative",
                        factor, eps));
  do_normalise(y, x, sum_squares, factor, eps);
  book(Op::normalise, false, t, count(y.elements()), bytes_of({y, x, sum_squares}));
}

void Backend::momentum(Tensor update, Tensor m, Tensor grad, Tensor grad_scale, double beta,
                       bool nesterov) {
  const Contract c(Op::momentum, computes(), has_f64());
  const DType t = c.float_type({"update", update}), s = statistics_of(t);
  c.is({"update", update}, t, update.shape);
  c.is({"m", m}, s, update.shape);
  c.is({"grad", grad}, s, update.shape);
  c.is({"grad_scale", grad_scale}, s, {1});
  c.may_be({"update", update}, {"grad", grad});
  c.no_alias({"update", update}, {{"m", m}, {"grad_scale", grad_scale}});
  c.no_alias({"m", m}, {{"grad", grad}, {"grad_scale", grad_scale}});
  c.require(beta >= 0 && beta < 1, fmt::format("beta is {}; allowed: [0, 1)", beta));
  do_momentum(update, m, grad, grad_scale, beta, nesterov);
  book(Op::momentum, false, t, (nesterov ? 7 : 4) * count(update.elements()),
       bytes_of({update, grad, grad_scale}) + written(m, true));
}

}  // namespace strait
