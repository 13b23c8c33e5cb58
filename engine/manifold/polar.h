// The polar factor of a matrix by odd polynomials, in the device's ops: X = U S V^T becomes U V^T where the iteration converges.
// One iteration is a quintic, X <- a X + X (b G + c G^2) with G = X^T X, or the same from the left with G = X X^T where X has fewer
// rows than columns: the Gram matrix is of the smaller side. 4 d r^2 + 2 r^3 FLOPs for d x r, r <= d.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/nn/module.h"

namespace strait {

// Which (a, b, c) each iteration takes.
enum class PolarCoefficients : uint8_t {
  // Best for each iteration in turn, from singular values anywhere in [1e-3, 1] (Amsel et al. 2025, arXiv 2505.16932; specs/mapl.md 3.2):
  // eight of them, then the last for ever. Five iterations leave errors of 2e-1, eight of 1e-6 (f32).
  polar_express,
  // (3.4445, -4.7750, 2.0315): steep at 0, deliberately without convergence; singular values end between 0.5 and 1.5 (Muon, Jordan 2024).
  muon,
  // (2, -1.5, 0.5) (ProtocolNanoGPT; specs/subspace_models.md section 6): converges, slowly from small singular values.
  protocol,
  // (1.875, -1.25, 0.375): the Taylor quintic, cubic convergence near the manifold (specs/mapl.md 3.2). Singular values in (0, 1.5]
  // are safe, so with `normalise` false two iterations retract a small step.
  newton_schulz,
};

struct PolarOptions {
  PolarCoefficients coefficients = PolarCoefficients::polar_express;
  int steps = 8;  // at least 1
  // Begin with X / (f ||X||_F + eps), f = 1.01 for polar_express, else 1: the result does not depend on the scale of X.
  bool normalise = true;
  double eps = 1e-14;  // keeps scales away at which squares of f32 vanish
};

// y (rows, cols) T = the polynomial of x (rows, cols) T; contiguous; y may be x where `normalise`. Zero gives zero. Everything in T (products accumulate in S):
// f32, bf16, or f64 on the reference backend. In bf16 the result is good to 1e-2 at best. Temporaries are taken from ctx.scratch.
void polar(Context& ctx, Tensor y, Tensor x, const PolarOptions& options);

// By name, "polar_express", "muon", "protocol", "newton_schulz". Throws std::invalid_argument that lists the names.
PolarCoefficients polar_coefficients(std::string_view name);
std::vector<std::string> polar_coefficients_names();

}  // namespace strait
