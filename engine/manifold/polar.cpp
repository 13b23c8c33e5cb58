#include "engine/manifold/polar.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace strait {
namespace {

struct Quintic {
  double a, b, c;
};

constexpr Quintic kNewtonSchulz{1.875, -1.25, 0.375};

// The published list; all but the last are used for values up to 1.01, which rounding may reach.
constexpr std::array<Quintic, 7> kPolarExpress = {
    {{8.28721201814563, -23.595886519098837, 17.300387312530933},
     {4.107059111542203, -2.9478499167379106, 0.5448431082926601},
     {3.9486908534822946, -2.908902115962949, 0.5518191394370137},
     {3.3184196573706015, -2.488488024314874, 0.51004894012372},
     {2.300652019954817, -1.6689039845749493, 0.4188073119525673},
     {1.891301407787398, -1.2679958271945868, 0.37680408948524835},
     {1.8750014808534479, -1.2500016453999487, 0.3750001645474248}}};
constexpr double kSafety = 1.01;

Quintic quintic_of(PolarCoefficients coefficients, int step) {
  switch (coefficients) {
    case PolarCoefficients::polar_express: {
      if (step >= static_cast<int>(kPolarExpress.size())) return kNewtonSchulz;
      const Quintic& q = kPolarExpress[static_cast<size_t>(step)];
      constexpr double s = kSafety, s3 = s * s * s;
      return {q.a / s, q.b / s3, q.c / (s3 * s * s)};
    }
    case PolarCoefficients::muon:
      return {3.4445, -4.7750, 2.0315};
    case PolarCoefficients::protocol:
      return {2.0, -1.5, 0.5};
    case PolarCoefficients::newton_schulz:
      break;
  }
  return kNewtonSchulz;
}

// y = a x + x (b G + c G^2), G the Gram matrix of the smaller side. gram, square: (n, n) each, n that side.
void iterate(Context& ctx, const Tensor& y, const Tensor& x, const Quintic& q, const Tensor& gram,
             const Tensor& square) {
  const bool tall = x.size(0) >= x.size(1);
  ctx.ops.matmul(gram, x, tall, x, !tall, false);
  ctx.ops.matmul(square, gram, false, gram, false, false);
  ctx.ops.combine(square, q.c, square, q.b, gram);
  ctx.ops.combine(y, q.a, x, 0.0, {});
  if (tall)
    ctx.ops.matmul(y, x, false, square, false, true);
  else
    ctx.ops.matmul(y, square, false, x, false, true);
}

struct Name {
  const char* name;
  PolarCoefficients value;
};
constexpr std::array<Name, 4> kNames = {{{"polar_express", PolarCoefficients::polar_express},
                                         {"muon", PolarCoefficients::muon},
                                         {"protocol", PolarCoefficients::protocol},
                                         {"newton_schulz", PolarCoefficients::newton_schulz}}};

}  // namespace

void polar(Context& ctx, Tensor y, Tensor x, const PolarOptions& o) {
  STRAIT_CHECK(x.shape.rank == 2 && o.steps >= 1, "polar() takes a matrix and at least one step");
  STRAIT_CHECK(o.normalise || x.data == nullptr || x.data != y.data,
               "polar() works in place only where it normalises");
  ArenaScope scope(ctx.scratch);
  const int64_t side = std::min(x.size(0), x.size(1));
  const Tensor gram = ctx.scratch.take({side, side}, x.dtype),
               square = ctx.scratch.take({side, side}, x.dtype),
               other = ctx.scratch.take(x.shape, x.dtype);
  // The iterations write into `y` and `other` by turns, the last one into `y`.
  const auto target = [&](int step) { return (o.steps - 1 - step) % 2 == 0 ? y : other; };
  if (o.normalise) {
    const Tensor sum_squares = ctx.scratch.take({1}, DType::f64);
    ctx.ops.sum_squares(sum_squares, x);
    const double factor = o.coefficients == PolarCoefficients::polar_express ? kSafety : 1.0;
    ctx.ops.normalise(target(-1), x, sum_squares, factor, o.eps);
    x = target(-1);
  }
  for (int step = 0; step < o.steps; ++step) {
    iterate(ctx, target(step), x, quintic_of(o.coefficients, step), gram, square);
    x = target(step);
  }
}

PolarCoefficients polar_coefficients(std::string_view name) {
  for (const Name& n : kNames)
    if (name == n.name) return n.value;
  throw std::invalid_argument(fmt::format("unknown coefficients '{}'; allowed: {}", name,
                                          fmt::join(polar_coefficients_names(), ", ")));
}

std::vector<std::string> polar_coefficients_names() {
  std::vector<std::string> names;
  for (const Name& n : kNames) names.emplace_back(n.name);
  return names;
}

}  // namespace strait
