#include "engine/context/subspace_side.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "engine/context/subspace_matrices.h"
#include "engine/manifold/cholesky_qr.h"
#include "engine/manifold/orthonormal.h"
#include "engine/manifold/principal.h"
#include "engine/manifold/spel.h"

namespace strait {
SubspaceSide::SubspaceSide(const MixtureOptions& o, const MixtureSizes& sizes, int64_t rank,
                           const std::string& name, ParameterList& parameters)
    : t_(parameters.dtype()),
      s_(statistics_of(t_)),
      groups_(sizes.groups),
      w_(sizes.width),
      r_(rank),
      name_(name),
      source_(o.rotation == "random" ? "random"
              : o.rotation == "none" ? "zero"
                                     : o.theta_source),
      basis_source_(o.basis_source),
      family_{o.rotation == "random" ? "taylor2"
              : source_ == "zero"    ? "none"
                                     : o.rotation,
              o.generator_norm, o.theta_clip},
      bound_(o.clip == "tanh" ? Bound::tanh : Bound::hard),
      limit_(o.theta_clip),
      basis_lr_mult_(o.basis_lr_mult),
      seed_(o.seed) {
  terms_ = family_.terms(s_);
  const bool reads = source_ == "chunk_mean" || source_ == "prev_piece";
  if (reads)
    psi_ = parameters.declare(name + "theta_proj.weight", {groups_ * w_}, ParameterGroup::vector,
                              zeros());
  if (reads || source_ == "constant")
    bias_ =
        parameters.declare(name + "theta_proj.bias", {groups_}, ParameterGroup::vector, zeros());
  frames_ = parameters.declare_state(name + "frames", {groups_, terms_, w_ * r_}, s_, zeros());
  const std::string batches =
      o.basis_source == "activations" ? fmt::format(" {}", o.calibration_batches) : "";
  // What the frames were made of: frames of another kind may have the same shape (Rank::load).
  const double made_of = static_cast<double>(
      hash_name(fmt::format("{} {} {} {}{} {} {} {}", o.scope, o.rotation, o.generator_norm,
                            o.basis_source, batches, o.seed, o.project_at_start, r_)) >>
      11);
  parameters.declare_state(name + "family", {1}, DType::f64,
                           [made_of](std::vector<double>& v) { v[0] = made_of; });
  if (o.basis_opt == "stiefel")
    basis_gradient_ = parameters.declare_sum(name + "basis_gradient", {groups_, w_, r_}, s_);
  if (o.basis_source == "activations")
    gram_ = parameters.declare_sum(name + "gram", {groups_, w_, w_}, s_);
}

Tensor SubspaceSide::columns_of(const Tensor& z, int64_t g, int64_t b) const {
  const int64_t heads = z.size(2) / groups_;
  Tensor m = z.slice(0, b, 1).slice(2, g * heads, heads);
  m.shape = {z.size(1), w_};
  m.strides = {z.stride(1), 1, 0, 0};
  return m;
}

Tensor SubspaceSide::in_t(Context& ctx, const Tensor& x) const {
  if (x.dtype == t_) return x;
  Tensor y = ctx.scratch.take(x.shape, t_);
  ctx.ops.cast(y, x);
  return y;
}

Tensor SubspaceSide::head_weight(Context& ctx, int64_t g) const {
  const Tensor psi = psi_->value.slice(0, g * w_, w_).view({1, w_});
  if (t_ == s_) return psi;
  Tensor wide = ctx.scratch.take(psi.shape, s_);
  ctx.ops.cast(wide, psi);
  return wide;
}

Tensor SubspaceSide::bases(Context& ctx, const Tensor& theta, bool derivative) const {
  if (terms_ == 1) return in_t(ctx, frames_->value.view({groups_, 1, w_, r_}));
  const int64_t B = theta.size(1);
  Tensor u = ctx.scratch.take({groups_, B, w_, r_}, s_);
  Tensor f = ctx.scratch.take({groups_ * B, terms_}, s_);
  ctx.ops.rotation_coefficients(f, flat(theta), family_.series(), derivative);
  for (int64_t g = 0; g < groups_; ++g)
    ctx.ops.matmul(u.slice(0, g, 1).view({B, w_ * r_}), f.slice(0, g * B, B), false,
                   frames_->value.slice(0, g, 1).view({terms_, w_ * r_}), false, false);
  return in_t(ctx, u);
}

// head [+]= the bias, for every sequence.
void SubspaceSide::constant_head(Context& ctx, const Tensor& head, bool accumulate) const {
  ArenaScope scope(ctx.scratch);
  Tensor bias = bias_->value;
  if (t_ != s_) {
    bias = ctx.scratch.take(bias.shape, s_);
    ctx.ops.cast(bias, bias_->value);
  }
  const Tensor each = ones(ctx, head.size(1), s_);
  for (int64_t g = 0; g < groups_; ++g)
    ctx.ops.matmul(column(head, g), each, true, bias.slice(0, g, 1).view({1, 1}), false,
                   accumulate);
}

void SubspaceSide::summarise(Context& ctx, Arena& keep, Saved& saved, const Input& input,
                             bool training, const std::string& key) const {
  const bool absorbed = input.x.defined();
  const Tensor& z = input.z;
  const int64_t B = absorbed ? input.x.size(0) : z.size(0);
  saved = {};
  saved.t = keep.take({groups_, B}, s_);
  if (training) saved.dt = keep.take({groups_, B}, s_);
  if (source_ == "zero") return ctx.ops.fill(saved.t, 0);
  if (source_ == "random")
    return ctx.ops.random_normal(saved.t, Philox{seed_}, hash_name("theta " + name_ + key),
                                 limit_ / 2);
  saved.head = saved.t;
  saved.dhead = saved.dt;
  if (source_ == "constant") return constant_head(ctx, saved.head, false);
  if (source_ == "prev_piece") {
    saved.head = keep.take({groups_, B}, s_);
    if (training) saved.dhead = keep.take({groups_, B}, s_);
  }
  saved.zbar = keep.take({groups_, B, w_}, s_);
  ArenaScope scope(ctx.scratch);
  if (absorbed) {
    absorbed_mean(ctx, saved.zbar, input);
  } else {
    const Tensor each = ones(ctx, z.size(1), t_);
    for (int64_t g = 0; g < groups_; ++g)
      for (int64_t b = 0; b < B; ++b)
        ctx.ops.matmul(saved.zbar.slice(0, g, 1).slice(1, b, 1).view({1, w_}), each, false,
                       columns_of(z, g, b), false, false);
    ctx.ops.scale(saved.zbar, 1.0 / static_cast<double>(z.size(1)));
  }
  for (int64_t g = 0; g < groups_; ++g)
    ctx.ops.matmul(column(saved.head, g), saved.zbar.slice(0, g, 1).view({B, w_}), false,
                   head_weight(ctx, g), true, false);
  constant_head(ctx, saved.head, true);
}

void SubspaceSide::compress(Context& ctx, Arena& keep, Saved& saved, const Tensor& c,
                            const Tensor& theta, const Input& input, bool training) const {
  const bool absorbed = input.x.defined();
  const Tensor& z = input.z;
  if (training && learns() && !absorbed) saved.turned = keep.take(c.shape, t_);
  if (training && basis_gradient_ != nullptr && !absorbed) {
    saved.z = keep.take(z.shape, t_);
    ctx.ops.cast(saved.z, z);
  }
  ArenaScope scope(ctx.scratch);
  ctx.ops.bound_forward(theta, saved.t, bound_, limit_);
  const auto project = [&](const Tensor& y, bool derivative) {
    ArenaScope inner(ctx.scratch);
    const Tensor u = bases(ctx, theta, derivative);
    for (int64_t g = 0; g < groups_; ++g)
      for (int64_t b = 0; b < z.size(0); ++b)
        ctx.ops.matmul(matrix_of(y, g, b), columns_of(z, g, b), false, matrix_of(u, g, b), false,
                       false);
  };
  const Tensor exact = c.dtype == t_ ? c : ctx.scratch.take(c.shape, t_);
  if (absorbed)
    absorbed_compress(ctx, keep, saved, exact, theta, input, training);
  else
    project(exact, false);
  if (c.dtype != t_) ctx.ops.cast(c, exact);
  if (saved.turned.defined()) project(saved.turned, true);
}

void SubspaceSide::expand(Context& ctx, const Tensor& zhat, const Tensor& c,
                          const Tensor& theta) const {
  ArenaScope scope(ctx.scratch);
  const Tensor u = bases(ctx, theta, false), in = in_t(ctx, c);
  for (int64_t g = 0; g < groups_; ++g)
    for (int64_t b = 0; b < zhat.size(0); ++b)
      ctx.ops.matmul(columns_of(zhat, g, b), matrix_of(in, g, b), false, matrix_of(u, g, b), true,
                     false);
}

void SubspaceSide::expand_backward(Context& ctx, const Tensor& dc, const Tensor& dtheta,
                                   const Tensor& dzhat, const Tensor& c, const Tensor& theta,
                                   bool accumulate) const {
  ArenaScope scope(ctx.scratch);
  const Tensor d = in_t(ctx, dzhat);
  const int64_t B = dzhat.size(0);
  const auto project = [&](const Tensor& y, bool derivative, bool add) {
    ArenaScope inner(ctx.scratch);
    const Tensor u = bases(ctx, theta, derivative);
    for (int64_t g = 0; g < groups_; ++g)
      for (int64_t b = 0; b < B; ++b)
        ctx.ops.matmul(matrix_of(y, g, b), columns_of(d, g, b), false, matrix_of(u, g, b), false,
                       add);
  };
  project(dc, false, accumulate);
  if (basis_gradient_ != nullptr) {
    const Tensor in = in_t(ctx, c);
    for (int64_t g = 0; g < groups_; ++g)
      for (int64_t b = 0; b < B; ++b)
        ctx.ops.matmul(basis_gradient_->value.slice(0, g, 1).view({w_, r_}), columns_of(d, g, b),
                       true, matrix_of(in, g, b), false, true);
  }
  if (!learns()) {
    if (!accumulate) ctx.ops.fill(dtheta, 0);
    return;
  }
  const Tensor turned = ctx.scratch.take(dc.shape, s_);
  project(turned, true, false);
  ctx.ops.dot_rows(flat(dtheta), flat_rows(turned), flat_rows(c), accumulate);
}

void SubspaceSide::angle_gradient(Context& ctx, Saved& saved, const Tensor& dc,
                                  const Tensor& dtheta) const {
  if (saved.input.x.defined()) absorbed_angle_gradient(ctx, saved, dc, dtheta);
  if (!learns()) return;
  if (saved.turned.defined())
    ctx.ops.dot_rows(flat(dtheta), flat_rows(dc), flat_rows(saved.turned), true);
  ctx.ops.bound_backward(saved.dt, dtheta, saved.t, bound_, limit_);
}

// db, dpsi of group g; dzbar (B,w) S where the head reads it.
void SubspaceSide::head_backward(Context& ctx, const Saved& saved, const Tensor& dzbar,
                                 const Tensor& each_sequence, int64_t g) const {
  const Tensor dhead = column(saved.dhead, g);
  ctx.ops.matmul(bias_->grad.slice(0, g, 1).view({1, 1}), each_sequence, false, dhead, false, true);
  if (!reads_pieces()) return;
  ctx.ops.matmul(psi_->grad.slice(0, g * w_, w_).view({1, w_}), dhead, true,
                 saved.zbar.slice(0, g, 1).view({dhead.size(0), w_}), false, true);
  ctx.ops.matmul(dzbar, dhead, false, head_weight(ctx, g), false, false);
}

void SubspaceSide::compress_backward(Context& ctx, const Saved& saved, const Tensor& dz,
                                     const Tensor& dc) const {
  ArenaScope scope(ctx.scratch);
  const int64_t B = dz.size(0), tokens = dz.size(1);
  const Tensor theta = ctx.scratch.take(saved.t.shape, s_);
  ctx.ops.bound_forward(theta, saved.t, bound_, limit_);
  const Tensor u = bases(ctx, theta, false), d = in_t(ctx, dc);
  for (int64_t g = 0; g < groups_; ++g)
    for (int64_t b = 0; b < B; ++b) {
      ctx.ops.matmul(columns_of(dz, g, b), matrix_of(d, g, b), false, matrix_of(u, g, b), true,
                     false);
      if (basis_gradient_ != nullptr)
        ctx.ops.matmul(basis_gradient_->value.slice(0, g, 1).view({w_, r_}),
                       columns_of(saved.z, g, b), true, matrix_of(d, g, b), false, true);
    }
  if (!learns()) return;
  const Tensor each_sequence = ones(ctx, B, s_), each_token = ones(ctx, tokens, s_),
               dzbar = ctx.scratch.take({B, w_}, s_);
  for (int64_t g = 0; g < groups_; ++g) {
    head_backward(ctx, saved, dzbar, each_sequence, g);
    if (!reads_pieces()) continue;
    ctx.ops.scale(dzbar, 1.0 / static_cast<double>(tokens));
    for (int64_t b = 0; b < B; ++b)
      ctx.ops.matmul(columns_of(dz, g, b), each_token, true, dzbar.slice(0, b, 1), false, true);
  }
}

void SubspaceSide::calibrate(Context& ctx, const Tensor& z) const {
  if (gram_ == nullptr) return;
  for (int64_t g = 0; g < groups_; ++g)
    for (int64_t b = 0; b < z.size(0); ++b)
      ctx.ops.matmul(gram_->value.slice(0, g, 1).view({w_, w_}), columns_of(z, g, b), true,
                     columns_of(z, g, b), false, true);
}

std::vector<double> SubspaceSide::basis_of(Context& ctx, const std::vector<double>& rows,
                                           int64_t columns, int64_t g) const {
  if (basis_source_ == "random") {
    std::vector<double> u(static_cast<size_t>(w_ * r_));
    const uint64_t stream = hash_name(fmt::format("basis {}{}", name_, g));
    for (size_t i = 0; i < u.size(); ++i) u[i] = normal_at(Philox{seed_}, stream, i);
    orthonormalise(u, w_, r_);
    return u;
  }
  if (basis_source_ == "activations") {
    std::vector<double> gram = host_values(ctx.ops, gram_->value.slice(0, g, 1).view({w_, w_}));
    double trace = 0;
    for (int64_t i = 0; i < w_; ++i) trace += gram[static_cast<size_t>(i * w_ + i)];
    if (!(trace > 0))
      throw std::runtime_error("mixture of subspaces, basis_source activations: " + name_ +
                               " has seen none");
    // The two halves of a product on a device may differ in their last bits.
    for (int64_t i = 0; i < w_; ++i)
      for (int64_t j = 0; j < i; ++j) {
        double &low = gram[static_cast<size_t>(i * w_ + j)],
               &high = gram[static_cast<size_t>(j * w_ + i)];
        low = high = 0.5 * (low + high);
      }
    return principal_directions(gram, w_, r_);
  }
  const auto first = rows.begin() + g * w_ * columns;
  return principal_directions(gram_of_rows({first, first + w_ * columns}, w_, columns), w_, r_);
}

void SubspaceSide::begin(Context& ctx, ControlLink& link, const std::vector<double>& rows,
                         int64_t columns) const {
  if (gram_ != nullptr) link.sum_over_copies(gram_->value);
  link.from_first_copy(frames_->value, [&] {
    if (rows.empty()) return;  // meta
    std::vector<double> frames;
    for (int64_t g = 0; g < groups_; ++g) {
      const std::vector<double> of_group =
          rotation_terms(family_, basis_of(ctx, rows, columns, g), w_, r_, terms_, seed_,
                         hash_name(fmt::format("generator {}{}", name_, g)));
      frames.insert(frames.end(), of_group.begin(), of_group.end());
    }
    host_upload(ctx.ops, frames_->value, frames);
  });
  if (gram_ != nullptr) ctx.ops.fill(gram_->value, 0);
}

void SubspaceSide::end_synchronise(Context& ctx, ControlLink& link, const StepEnd& end) const {
  if (basis_gradient_ == nullptr) return;
  link.sum_gradient(basis_gradient_->value);
  link.compute([&] {
    for (int64_t g = 0; g < groups_; ++g) {
      const Tensor u = frames_->value.slice(0, g, 1).view({w_, r_}),
                   gradient = basis_gradient_->value.slice(0, g, 1).view({w_, r_});
      project_to_tangent(ctx, gradient, u);
      ctx.ops.axpy(u, -end.learning_rate * basis_lr_mult_, gradient);
      orthonormalise_columns(ctx, u);
    }
    ctx.ops.fill(basis_gradient_->value, 0);
  });
}

Diagnosis SubspaceSide::diagnose(Context& ctx, const Tensor& z, const std::vector<Tensor>& t,
                                 const std::string& z_name) const {
  ArenaScope scope(ctx.scratch);
  const int64_t B = z.size(0), tokens = z.size(1);
  const Tensor all = ctx.scratch.take(z.shape, s_),
               inside = ctx.scratch.take({groups_, B, tokens, r_}, s_);
  ctx.ops.cast(all, z);
  for (int64_t g = 0; g < groups_; ++g) {
    const Tensor ubar = in_t(ctx, frames_->value.slice(0, g, 1).slice(1, 0, 1).view({w_, r_}));
    for (int64_t b = 0; b < B; ++b)
      ctx.ops.matmul(matrix_of(inside, g, b), columns_of(z, g, b), false, ubar, false, false);
  }
  Diagnosis found = {
      {z_name + "_captured", sum_of_squares(ctx, inside) / sum_of_squares(ctx, all)}};
  if (source_ == "zero") return found;
  double largest = 0, clipped = 0, angles = 0;
  for (const Tensor& of_piece : t)
    for (const double x : host_values(ctx.ops, of_piece)) {
      const double size = std::abs(x);
      largest = std::max(largest, bound_ == Bound::hard ? std::min(size, limit_)
                                                        : limit_ * std::tanh(size / limit_));
      clipped += size >= limit_ ? 1 : 0;
      angles += 1;
    }
  found.emplace_back(z_name + "_angle", largest);
  found.emplace_back(z_name + "_clipped", clipped / std::max(angles, 1.0));
  return found;
}

std::vector<double> SubspaceSide::frames(Context& ctx) const {
  return host_values(ctx.ops, frames_->value);
}

}  // namespace strait
