// Keys, or values, of one layer in a mixture of subspaces (specs/mixture_of_subspaces.md 2 and 3): from Z (tokens, w) before RoPE to coordinates
// C (tokens, r) and an angle theta a piece and sequence, back to Zhat, and the gradients of both. mixture_of_subspaces.h joins two of these.
//
//   zbar = mean of Z over the piece;  t = psi^T zbar + b;  theta = clip(t);  U = U(theta) (rotation_family.h)
//   C = Z U;  Zhat = C U^T
//
//   everybody   dC += dZhat U;  dtheta += <dZhat U', C>                              U' = dU/dtheta
//   owner       dtheta += <dC, Z U'>;  dt = dtheta clip'(t);  dpsi += zbar dt;  db += dt
//               dZ = dC U^T + 1/n 1 (psi dt)^T
//
// Z is given, or (M22) X and the projection's weights, and then never formed: subspace_absorbed.cpp.
//
// Groups g < G of key heads have a subspace each: w = Hkv Dh / G columns of Z. Shapes: C (G,B,tokens,r); t, theta (G,B) S; zbar (G,B,w) S.
#pragma once

#include <string>
#include <vector>

#include "engine/context/key_value_codec.h"
#include "engine/context/mixture_options.h"
#include "engine/context/rotation_family.h"

namespace strait {

// mean (B,C) S of x (B,tokens,C) T, strided in all but the last, over the tokens.
void token_mean(Context& ctx, const Tensor& mean, const Tensor& x);

class SubspaceSide {
 public:
  // `name`: of its parameters and states, "model.layers.3.self_attn.mixture.k.". Declares them.
  SubspaceSide(const MixtureOptions& options, const MixtureSizes& sizes, int64_t rank,
               const std::string& name, ParameterList& parameters);

  // What a piece is coded from: Z (B,tokens,Hkv,Dh) T, strided in all but the last two; or x (B,tokens,C) T, strided in all but the last,
  // with its mean over the tokens (where reads_pieces(), token_mean()), (B,C) S, and the rows of the stacked projection that make Z of
  // it, (G w, C) T.
  struct Input {
    Tensor z = {};
    Tensor x = {}, mean = {}, weight = {};
  };
  // What the owner keeps of a piece from forward to backward.
  struct Saved {
    Tensor t, zbar;  // zbar: where the head reads it
    Tensor head;     // what the head made of zbar: t of this piece, or of the next one
    Tensor turned;   // (G,B,tokens,r) T: Z U'
    Tensor z;        // stiefel: Z
    Tensor dt, dhead;
    // Where Z is not formed: what it would be made of, W U (G,B or 1,C,r) T, and, from angle_gradient() to absorbed_backward(), its gradient
    // (G,B,C,r) S in scratch.
    Input input;
    Tensor absorbed, dabsorbed;
  };
  int64_t rank() const { return r_; }
  int64_t groups() const { return groups_; }
  bool reads_pieces() const { return psi_ != nullptr; }  // theta is a function of Z
  bool learns() const { return bias_ != nullptr; }       // theta has a gradient

  // Owner, forward. `key`: of this piece, for random angles. First saved.head of
  // every piece, then saved.t of each is there (it is saved.head itself, but where it comes from another piece), then compress().
  void summarise(Context& ctx, Arena& keep, Saved& saved, const Input& input, bool training,
                 const std::string& key) const;
  // c on the wire, theta (G,B) S.
  void compress(Context& ctx, Arena& keep, Saved& saved, const Tensor& c, const Tensor& theta,
                const Input& input, bool training) const;
  // Everybody. zhat, dzhat (B,tokens,Hkv,Dh), contiguous; zhat T, dzhat S; dc, dtheta S are sums.
  void expand(Context& ctx, const Tensor& zhat, const Tensor& c, const Tensor& theta) const;
  void expand_backward(Context& ctx, const Tensor& dc, const Tensor& dtheta, const Tensor& dzhat,
                       const Tensor& c, const Tensor& theta, bool accumulate) const;
  // Owner, backward, from the sums: saved.dt of every piece, then saved.dhead is there, then dz (B,tokens,Hkv,Dh) S, contiguous; or
  // dx [+]= (B,tokens,C) S, contiguous, and dweight (G w, C) S +=. What angle_gradient() leaves in scratch is needed until then.
  void angle_gradient(Context& ctx, Saved& saved, const Tensor& dc, const Tensor& dtheta) const;
  void compress_backward(Context& ctx, const Saved& saved, const Tensor& dz,
                         const Tensor& dc) const;
  void absorbed_backward(Context& ctx, const Saved& saved, const Tensor& dx, const Tensor& dweight,
                         const Tensor& dc, bool accumulate) const;

  // Notes Z for basis_source activations.
  void calibrate(Context& ctx, const Tensor& z) const;
  // `rows` (G w, C): of the stacked projection that make Z; host. The first copy makes the frames, the others receive them.
  void begin(Context& ctx, ControlLink& link, const std::vector<double>& rows,
             int64_t columns) const;
  void end_synchronise(Context& ctx, ControlLink& link, const StepEnd& end) const;
  // Of z (B,tokens,Hkv,Dh) T: "captured" ||Z Ubar||^2 / ||Z||^2; and of the angles `t` (G,B) S of its pieces, where they turn anything,
  // "angle" the largest |theta|, "clipped" the share of those at the limit. `z_name` in front. Waits for the device.
  Diagnosis diagnose(Context& ctx, const Tensor& z, const std::vector<Tensor>& t,
                     const std::string& z_name) const;
  std::vector<double> frames(Context& ctx) const;  // (G, J, w r) on the host

 private:
  // U, or U', for all groups and sequences: (G,B,w,r), or (G,1,w,r) where they are the same for all; T, in scratch.
  Tensor bases(Context& ctx, const Tensor& theta, bool derivative) const;
  Tensor columns_of(const Tensor& z, int64_t g, int64_t b) const;  // (tokens, w)
  Tensor head_weight(Context& ctx, int64_t g) const;               // psi (1,w) S
  Tensor in_t(Context& ctx, const Tensor& x) const;                // itself, or rounded in scratch
  void constant_head(Context& ctx, const Tensor& head, bool accumulate) const;
  void head_backward(Context& ctx, const Saved& saved, const Tensor& dzbar,
                     const Tensor& each_sequence, int64_t g) const;
  Tensor rows_of(const Tensor& weight, int64_t g) const;  // (w, C)
  void absorbed_mean(Context& ctx, const Tensor& zbar, const Input& input) const;
  void absorbed_compress(Context& ctx, Arena& keep, Saved& saved, const Tensor& c,
                         const Tensor& theta, const Input& input, bool training) const;
  void absorbed_angle_gradient(Context& ctx, Saved& saved, const Tensor& dc,
                               const Tensor& dtheta) const;
  std::vector<double> basis_of(Context& ctx, const std::vector<double>& rows, int64_t columns,
                               int64_t g) const;

  DType t_, s_;
  int64_t groups_, w_, r_, terms_ = 1;
  std::string name_, source_, basis_source_;
  RotationFamily family_;
  Bound bound_;
  double limit_, basis_lr_mult_;
  uint64_t seed_;
  Parameter *psi_ = nullptr, *bias_ = nullptr;
  Buffer* frames_ = nullptr;          // (G, J, w r) S
  Buffer* basis_gradient_ = nullptr;  // (G, w, r) S; stiefel
  Buffer* gram_ = nullptr;            // (G, w, w) S; basis_source activations
};

}  // namespace strait
