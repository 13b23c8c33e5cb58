// Muon (Jordan et al. 2024): momentum, then the step is its polar factor, roughly, by a few iterations of a quintic. No second moment.
//   m = beta m + (1-beta) g;  u = beta m + (1-beta) g (nesterov) or m;  D = polar(u)
//   W = (1 - lr wd) W - lr s D,   s from the sizes of W (out, in)
// D does not depend on the scale of the gradients: clipping changes the mean m only by the factor of one step beside another's.
#pragma once

#include <cstdint>

#include "engine/manifold/polar.h"
#include "engine/nn/module.h"

namespace strait {

// s for a matrix (out, in).
enum class MuonScale : uint8_t {
  spectral,  // sqrt(max(1, out / in)) (Jordan et al. 2024)
  rms,  // 0.2 sqrt(max(out, in)): a step of AdamW's size, so that its rates and decay fit (Liu et al. 2025, arXiv 2502.16982)
  none  // 1
};

struct MuonOptions {
  double lr = 0.02;  // the peak
  double momentum = 0.95;
  bool nesterov = true;
  int steps = 5;
  PolarCoefficients coefficients = PolarCoefficients::muon;
  MuonScale scale = MuonScale::spectral;
  double weight_decay = 0.1;
};

double muon_scale(MuonScale scale, int64_t outputs, int64_t inputs);

// One update of a matrix from its accumulated gradient, scaled by grad_scale (1) S. Matrices that are stacked in one parameter
// (Parameter::stacked) are taken by themselves. The iterations run in the compute type T.
void muon_step(Context& ctx, const Parameter& parameter, const MuonOptions& options, double lr,
               double weight_decay, Tensor grad_scale);

}  // namespace strait
