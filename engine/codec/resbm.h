// Method `resbm`: Residual Bottleneck Models (Aboudib, Lopez Portillo, Brady, Cruz, arXiv 2604.11947), specs/resbm.md. Every boundary has a
// trained encoder on the sender and a trained decoder on the receiver, each around a rectangular identity: T_c keeps the first c
// coordinates, P_d pads with zeros.
//
//   forward   z = T_c(x) + F_e(x)                 (N,c) sent        h = P_d(z) + F_d(z)                    section 2.1
//   backward  g_z = T_c(g_h) + F_d'(z)^T g_h      (N,c) sent        g_x = P_d(g_z) + F_e'(x)^T g_z         section 2.2
//   F         mlp: act(a W1^T) W2^T;  linear: a W^T; no biases; with enc_norm rms F_e reads the RMSNorm of x (gain trained)
//   bytes     N c w each way                                                                               section 3.3
//
// Form iota_v1, the predecessor, is fused into the two layers beside a boundary (section 2.4): y the residual stream before the sender's last FFN, g what
// that FFN would add to it; the receiver's first attention reads r instead of the stream. f = SiLU(g) and r are the only ways of learned parts:
//
//   forward   z = T_c(y) + SiLU(g) W4^T           (N,c) sent        stream = P_d(z),  r = ReLU(z W_dec^T)
//   backward  g_z = T_c(g_stream) + W_dec^T (g_r [r > 0])           g_y = P_d(g_z),  g_g = SiLU'(g) (W4^T g_z)
//
// An fp16 wire carries gradients times fp16_gradient_factor(); activations beyond 65504 become infinite.
// Sums with the identity are in S and rounded once to the wire; the receiver works with the rounded z (its products with z in the run's
// type), the sender takes the rounding for the identity. Nothing constrains the model: a plain LLaMA's parameters go on unchanged, encoders and decoders begin afresh.
#pragma once

#include "engine/codec/method.h"

namespace strait {

// Throws std::invalid_argument where options do not fit the shape or each other.
std::unique_ptr<Method> make_resbm(const MethodOptions& options, const ModelShape& shape,
                                   DType compute);

}  // namespace strait
