#include "engine/codec/subspace_motion.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "engine/codec/subspace_full.h"
#include "engine/manifold/grassmann.h"

namespace strait {
namespace {

constexpr int32_t kBasis = 0;  // purpose of the message

class Motion final : public BasisMotion {
 public:
  Motion(const MethodContext& c, const MethodOptions& o, SubspaceVariant variant, Buffer* basis,
         int boundary, BoundaryEnd end)
      : pool_(c.pool),
        parameters_(c.parameters),
        every_(o.update_every),
        step_{o.update_step, o.max_angle,
              basis->dtype == DType::f64 ? std::numeric_limits<double>::epsilon()
                                         : std::numeric_limits<float>::epsilon()},
        keeps_coordinates_(o.transport == "keep"),
        variant_(variant),
        end_(end),
        u_(basis),
        version_state_(c.parameters.declare_state("subspace.version", {1}, DType::f64, zeros())) {
    if (end == BoundaryEnd::sender || boundary + 1 != c.boundaries) return;
    y_ = c.parameters.declare_state("subspace.Y", basis->shape, basis->dtype, zeros());
    e_ = c.parameters.declare_state("subspace.e", {1}, DType::f64, zeros());
    y_->moment = e_->moment = y_->local = e_->local = true;
  }

  uint64_t version(Backend& ops) const override {
    if (!version_) {
      const std::vector<double> saved = host_values(ops, version_state_->value);
      version_ = saved.empty() ? 0 : static_cast<uint64_t>(saved[0]);
    }
    return *version_;
  }

  void observe(Context& ctx, const Tensor& dx, const Tensor& gamma) override {
    if (y_ == nullptr) return;
    ArenaScope scope(ctx.scratch);
    ctx.ops.matmul(y_->value, dx, true, gamma, false, true);
    Tensor squares = ctx.scratch.take({1}, DType::f64);
    ctx.ops.sum_squares(squares, dx);
    ctx.ops.add_statistics(e_->value, e_->value, squares);
  }

  // An update comes in few steps; the memory that it needs is taken in all of them, so that a plan made from the first has room.
  void begin_synchronise(Context& ctx) override {
    ArenaScope scope(ctx.scratch);
    version(ctx.ops);
    ctx.scratch.take(u_->shape, u_->dtype);
    ctx.scratch.take({u_->shape[1], u_->shape[1]}, u_->dtype);
    int64_t rows = 0;
    for (const Parameter& p : parameters_.parameters())
      if (held(p)) rows = std::max(rows, p.shape[0]);
    if (rows > 0) ctx.scratch.take({rows, u_->shape[1]}, u_->dtype);
  }

  void end_synchronise(Context& ctx, ControlLink& link, const StepEnd& end) override {
    if (end.step % every_ != 0) return;
    *version_ += 1;
    if (end_ == BoundaryEnd::sender) {
      const Message m = link.receive(kBasis);
      check_version(m, *version_, "subspace");
      link.compute([&] { move_to(ctx, m.section(0)); });
      return;
    }
    Message m(pool_, ctx.ops, {{u_->dtype, u_->shape}});
    if (y_ != nullptr) {
      link.sum_over_copies(y_->value);
      link.sum_over_copies(e_->value);
    }
    link.compute([&] {
      if (y_ != nullptr) {
        ArenaScope scope(ctx.scratch);
        Tensor next = ctx.scratch.take(u_->shape, u_->dtype);
        compute_next(ctx, next);
        move_to(ctx, next);
      }
      ctx.ops.cast(m.section(0), u_->value);
    });
    m.version = *version_;
    link.send(kBasis, std::move(m));
  }

  // captured_energy: tr(U^T Y) / e of the gradients since the last update.
  Diagnosis diagnose_grad(Context& ctx) override {
    if (y_ == nullptr) return {};
    const std::vector<double> u = host_values(ctx.ops, u_->value),
                              y = host_values(ctx.ops, y_->value),
                              e = host_values(ctx.ops, e_->value);
    if (e.empty() || !(e[0] > 0)) return {};
    return {{"captured_energy", std::inner_product(u.begin(), u.end(), y.begin(), 0.0) / e[0]}};
  }

  uint64_t expected_sync_bytes() const override {
    return static_cast<uint64_t>(u_->shape.elements()) * size_of(u_->dtype);
  }

 private:
  bool held(const Parameter& p) const {
    return p.name.ends_with(kCoordinates) || p.name.ends_with(kInSubspace);
  }

  // U+ into `next`; the statistic begins again.
  void compute_next(Context& ctx, const Tensor& next) {
    if (next.data == nullptr) return;
    const std::vector<double> u = host_values(ctx.ops, u_->value),
                              y = host_values(ctx.ops, y_->value);
    host_upload(ctx.ops, next, grassmann_step(u, y, u_->shape[0], u_->shape[1], step_));
    ctx.ops.fill(y_->value, 0.0);
    host_upload(ctx.ops, e_->value, {0.0});
  }

  // Re-bases everything on this rank that is held to U, and takes `next` for U.
  void move_to(Context& ctx, const Tensor& next) {
    ArenaScope scope(ctx.scratch);
    const int64_t k = u_->shape[1];
    Tensor r = ctx.scratch.take({k, k}, u_->dtype);
    ctx.ops.matmul(r, u_->value, true, next, false, false);
    for (Parameter& p : parameters_.parameters())
      if (held(p)) rebase(ctx, p, r, next);
    ctx.ops.cast(u_->value, next);
    host_upload(ctx.ops, version_state_->value, {static_cast<double>(*version_)});
  }

  void rebase(Context& ctx, Parameter& p, const Tensor& r, const Tensor& next) {
    if (variant_ == SubspaceVariant::reparametrised) {
      if (keeps_coordinates_) return;
      for (const Tensor& t : {p.master, p.m}) {
        ArenaScope scope(ctx.scratch);
        Tensor turned = ctx.scratch.take(t.shape, t.dtype);
        ctx.ops.matmul(turned, t, false, r, false, false);
        ctx.ops.cast(t, turned);
      }
    } else {
      const Tensor& from = keeps_coordinates_ ? u_->value : next;
      carry_rows(ctx, p.master, from, next);
      if (variant_ == SubspaceVariant::projected_gradient) carry_rows(ctx, p.m, from, next);
    }
    if (p.value.data != p.master.data) ctx.ops.cast(p.value, p.master);
  }

  MessagePool& pool_;
  ParameterList& parameters_;
  int64_t every_;
  GrassmannStep step_;
  bool keeps_coordinates_;
  SubspaceVariant variant_;
  BoundaryEnd end_;
  Buffer *u_, *version_state_, *y_ = nullptr, *e_ = nullptr;
  mutable std::optional<uint64_t> version_;  // on the host, read once
};

}  // namespace

std::unique_ptr<BasisMotion> make_basis_motion(const MethodContext& c, const MethodOptions& options,
                                               SubspaceVariant variant, Buffer* basis, int boundary,
                                               BoundaryEnd end) {
  return std::make_unique<Motion>(c, options, variant, basis, boundary, end);
}

}  // namespace strait
