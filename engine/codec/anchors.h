// Token anchors (specs/mapl.md, sections 1, 2 and 8): what a stage takes off an activation before it is projected and puts back after,
// a (N,d), a function of the token ids alone.
//
//   factorised   a = E[t] P     E (V,r_a) trainable, P (r_a,d) frozen, orthonormal rows; of the stage
//   full         a = E[t]       E (V,d) trainable; of the stage
//   static       a = tau[t]     tau (V,d) frozen, N(0,1); of all stages (specs/subspace_models.md 2.1)
#pragma once

#include <memory>
#include <string>

#include "engine/codec/method.h"

namespace strait {

class Anchors {
 public:
  virtual ~Anchors() = default;
  // y (N,d) S += sign * a(ids).
  virtual void add(Context& ctx, Tensor y, Tensor ids, double sign) = 0;
  // Gradients of the tables where the gradient of a is sign * dy, dy (N,d) T.
  virtual void backward(Context& ctx, Tensor dy, Tensor ids, double sign) = 0;
  // The same for dy = dz u^T, which is never formed where it need not be; dz (N,r) T, u (d,r) T.
  virtual void backward_projected(Context& ctx, Tensor dz, Tensor u, Tensor ids, double sign) = 0;
  // product (d,r) S += sign * a(ids)^T dz; dz (N,r) T.
  virtual void add_product(Context& ctx, Tensor product, Tensor dz, Tensor ids, double sign) = 0;
};

// Those of one side of a boundary; null for "none". `seed`: of what is frozen. Throws std::invalid_argument for unknown words.
std::unique_ptr<Anchors> make_anchors(const MethodContext& c, const AnchorOptions& options,
                                      uint64_t seed, int rank, int boundary, BoundaryEnd end);

}  // namespace strait
