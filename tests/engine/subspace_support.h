// What the tests of method `subspace` share: how far a tensor is from the subspace, the gradients of a pipeline by name, and the end of a
// step with control traffic.
#pragma once

#include <algorithm>
#include <cmath>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "engine/codec/subspace_full.h"
#include "tests/engine/pipeline.h"

namespace strait::testing {

// (N,d) rows: the part of x - T_fixed outside the subspace, as a share of x - T_fixed.
inline double outside(const Tensor& x, const Tensor& ids, const Buffer& table,
                      const Buffer& basis) {
  const int64_t d = x.size(1), k = basis.shape[1];
  double out = 0, all = 0;
  std::vector<double> r(static_cast<size_t>(d)), c(static_cast<size_t>(k));
  for (int64_t n = 0; n < x.size(0); ++n) {
    std::fill(c.begin(), c.end(), 0.0);
    for (int64_t i = 0; i < d; ++i) {
      r[static_cast<size_t>(i)] = at(x, n * d + i) - at(table.value, ids.as<int32_t>()[n] * d + i);
      all += r[static_cast<size_t>(i)] * r[static_cast<size_t>(i)];
      for (int64_t j = 0; j < k; ++j)
        c[static_cast<size_t>(j)] += r[static_cast<size_t>(i)] * at(basis.value, i * k + j);
    }
    for (int64_t i = 0; i < d; ++i) {
      double e = r[static_cast<size_t>(i)];
      for (int64_t j = 0; j < k; ++j) e -= c[static_cast<size_t>(j)] * at(basis.value, i * k + j);
      out += e * e;
    }
  }
  return std::sqrt(out / all);
}

// The largest boundary residual of one forward.
inline double boundary_residual(Pipeline& p) {
  double worst = 0;
  Pipeline::Hooks hooks;
  hooks.sent = [&](int s, Tensor x, Tensor ids) {
    ParameterList& list = p.list(s);
    const TrainingConfig& c = p.config();
    worst = std::max(worst,
                     outside(x, ids, *subspace_token_table(list, c.shape, c.method.basis_seed),
                             *subspace_basis(list, c.shape, *c.method.rank, c.method.basis_seed)));
  };
  p.step(0, 2, 2, hooks, false);
  return worst;
}

// The gradients of every parameter, by name, under given hooks.
inline std::vector<std::pair<std::string, std::vector<double>>> gradients(
    Pipeline& p, const Pipeline::Hooks& hooks, int64_t per_microbatch = 1) {
  p.step(0, 2, per_microbatch, hooks);
  std::vector<std::pair<std::string, std::vector<double>>> g;
  for (Parameter* q : p.all()) g.emplace_back(q->name, values(q->grad));
  return g;
}

// Moves every parameter away from its initial value, the same way in every pipeline, so that
// nothing is special.
inline void stir(Pipeline& p) {
  for (Parameter* q : p.all()) {
    for (int64_t i = 0; i < q->shape.elements(); ++i) {
      set(q->master, i,
          at(q->master, i) +
              0.1 * normal_at(Philox{77}, hash_name(q->name), static_cast<uint64_t>(i)));
    }
  }
}

// The same, and the matrices of variants A and B put back into the subspace.
inline void stir_within(Pipeline& p) {
  stir(p);
  p.after_update(kReproject);
}

inline TrainingConfig with_variant(TrainingConfig c, const std::string& variant) {
  c.method.variant = variant;
  return c;
}

inline bool held(const Parameter& p) {
  return p.name.ends_with(kCoordinates) || p.name.ends_with(kInSubspace);
}

// ||M Q|| / ||M|| of rows that should lie in the subspace, M (rows,d).
inline double outside_share(const Tensor& m, const Buffer& basis) {
  const int64_t d = m.size(1), k = basis.shape[1];
  double out = 0, all = 0;
  for (int64_t r = 0; r < m.size(0); ++r) {
    std::vector<double> c(static_cast<size_t>(k), 0.0);
    for (int64_t i = 0; i < d; ++i)
      for (int64_t j = 0; j < k; ++j)
        c[static_cast<size_t>(j)] += at(m, r * d + i) * at(basis.value, i * k + j);
    for (int64_t i = 0; i < d; ++i) {
      double e = at(m, r * d + i);
      all += e * e;
      for (int64_t j = 0; j < k; ++j) e -= c[static_cast<size_t>(j)] * at(basis.value, i * k + j);
      out += e * e;
    }
  }
  return std::sqrt(out / all);
}

inline Buffer& basis_of(Pipeline& p, int stage) {
  const TrainingConfig& c = p.config();
  return *subspace_basis(p.list(stage), c.shape, *c.method.rank, c.method.basis_seed);
}

// One end of a boundary whose messages lie in a queue.
class QueueLink final : public ControlLink {
 public:
  explicit QueueLink(std::deque<Message>& queue) : queue_(queue) {}
  void send(int32_t, Message message) override { queue_.push_back(std::move(message)); }
  Message receive(int32_t) override {
    Message m = std::move(queue_.front());
    queue_.pop_front();
    return m;
  }
  void sum_over_copies(Tensor) override {}
  void sum_gradient(Tensor) override {}
  void from_first_copy(Tensor, const std::function<void()>& make) override { make(); }
  void compute(const std::function<void()>& work) override { work(); }

 private:
  std::deque<Message>& queue_;
};

// What Rank does after the optimizer: from the last stage to the first. Returns the bytes sent.
inline uint64_t end_step(Pipeline& p, int64_t step) {
  const int stages = p.config().pipeline;
  std::vector<std::deque<Message>> queues(static_cast<size_t>(stages));
  uint64_t bytes = 0;
  Context ctx = p.context();
  for (int s = 0; s + 1 < stages; ++s) {
    QueueLink link(queues[static_cast<size_t>(s)]);
    p.codec_after(s).begin_synchronise(ctx, link);
    p.codec_before(s + 1).begin_synchronise(ctx, link);
  }
  for (int s = stages - 1; s >= 0; --s) {
    if (s + 1 < stages) {
      QueueLink next(queues[static_cast<size_t>(s)]);
      p.codec_after(s).end_synchronise(ctx, next, {step, 0.0});
    }
    if (s == 0) continue;
    QueueLink previous(queues[static_cast<size_t>(s - 1)]);
    p.codec_before(s).end_synchronise(ctx, previous, {step, 0.0});
    for (const Message& m : queues[static_cast<size_t>(s - 1)]) bytes += m.bytes().count;
  }
  return bytes;
}

}  // namespace strait::testing
