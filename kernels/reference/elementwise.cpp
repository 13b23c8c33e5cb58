// y = a + b, y += alpha x, y = alpha y, y = alpha x + beta z, y = x / norm, y = round(x), y = value; sum of x and of x^2; normal random
// numbers by index.
#include <cmath>

#include "kernels/reference/reference.h"

namespace strait {
namespace {

// Any tensor with a dense last dimension as four-dimensional, with leading dimensions of 1.
Tensor four_dimensional(const Tensor& t) {
  Tensor out = t;
  const auto lead = static_cast<size_t>(4 - t.shape.rank);
  out.shape.rank = 4;
  for (size_t i = 0; i < 4; ++i) {
    out.shape.dims[i] = i < lead ? 1 : t.shape.dims[i - lead];
    out.strides[i] = i < lead ? 0 : t.strides[i - lead];
  }
  return out;
}

}  // namespace

void ReferenceBackend::do_add(Tensor y, Tensor a, Tensor b) {
  for (int64_t i = 0; i < y.elements(); ++i) set(flat(y), get(flat(a), i) + get(flat(b), i), i);
}

void ReferenceBackend::do_axpy(Tensor y, double alpha, Tensor x) {
  for (int64_t i = 0; i < y.elements(); ++i)
    set(flat(y), get(flat(y), i) + alpha * get(flat(x), i), i);
}

void ReferenceBackend::do_scale(Tensor y, double alpha) {
  for (int64_t i = 0; i < y.elements(); ++i) set(flat(y), alpha * get(flat(y), i), i);
}

void ReferenceBackend::do_combine(Tensor y, double alpha, Tensor x, double beta, Tensor z) {
  for (int64_t i = 0; i < y.elements(); ++i)
    set(flat(y), alpha * get(flat(x), i) + (z.defined() ? beta * get(flat(z), i) : 0.0), i);
}

void ReferenceBackend::do_normalise(Tensor y, Tensor x, Tensor sum_squares, double factor,
                                    double eps) {
  const double divisor = factor * std::sqrt(get(sum_squares, 0)) + eps;
  for (int64_t i = 0; i < y.elements(); ++i)
    set(flat(y), divisor == 0 ? 0.0 : get(flat(x), i) / divisor, i);
}

void ReferenceBackend::do_cast(Tensor y, Tensor x) {
  const Tensor to = four_dimensional(y), from = four_dimensional(x);
  for (int64_t i = 0; i < to.size(0); ++i)
    for (int64_t j = 0; j < to.size(1); ++j)
      for (int64_t k = 0; k < to.size(2); ++k)
        for (int64_t l = 0; l < to.size(3); ++l) set(to, get(from, i, j, k, l), i, j, k, l);
}

void ReferenceBackend::do_fill(Tensor y, double value) {
  for (int64_t i = 0; i < y.elements(); ++i) set(flat(y), value, i);
}

void ReferenceBackend::do_sum(Tensor out, Tensor x) {
  double sum = 0;
  for (int64_t i = 0; i < x.elements(); ++i) sum += get(flat(x), i);
  set(out, sum, 0);
}

void ReferenceBackend::do_sum_squares(Tensor out, Tensor x) {
  double sum = 0;
  for (int64_t i = 0; i < x.elements(); ++i) sum += get(flat(x), i) * get(flat(x), i);
  set(out, sum, 0);
}

void ReferenceBackend::do_add_statistics(Tensor y, Tensor a, Tensor b) {
  for (int64_t i = 0; i < y.elements(); ++i)
    set(flat(y), get(flat(a), i) + (b.defined() ? get(flat(b), i) : 0.0), i);
}

void ReferenceBackend::do_clip_factor(Tensor factor, Tensor sum_squares, double max_norm) {
  const double norm = std::sqrt(get(flat(sum_squares), 0));
  set(factor, norm > max_norm ? max_norm / norm : 1.0, 0);
}

void ReferenceBackend::do_random_normal(Tensor y, const Philox& rng, uint64_t stream,
                                        double stddev) {
  for (int64_t i = 0; i < y.elements(); ++i)
    set(flat(y), stddev * normal_at(rng, stream, static_cast<uint64_t>(i)), i);
}

std::unique_ptr<Backend> make_reference_backend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace strait
