#include "engine/codec/method.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "engine/codec/baseline.h"
#include "engine/codec/frozen.h"
#include "engine/codec/mapl.h"
#include "engine/codec/resbm.h"
#include "engine/codec/subspace.h"
#include "engine/nn/dense.h"

namespace strait {
namespace {

struct Registered {
  std::string_view name;
  std::unique_ptr<Method> (*make)(const MethodOptions&, const ModelShape&, DType compute);
};

constexpr Registered kMethods[] = {
    {"none", make_baseline},        {"cast", make_baseline},
    {"quantize", make_baseline},    {"topk", make_baseline},
    {"column_mask", make_baseline}, {"lowrank", make_baseline},
    {"frozen", make_frozen},        {"mapl", make_mapl},
    {"resbm", make_resbm},          {"subspace", make_subspace},
};

}  // namespace

std::unique_ptr<Method> make_method(const MethodOptions& options, const ModelShape& shape,
                                    DType compute) {
  for (const Registered& m : kMethods) {
    if (m.name != options.method) continue;
    if (options.backward && m.make != make_baseline)
      throw std::invalid_argument(fmt::format(
          "compression method \"{}\" codes both directions itself; another for gradients "
          "is for {}",
          options.method, fmt::join(baseline_names(), ", ")));
    return m.make(options, shape, compute);
  }
  throw std::invalid_argument(fmt::format("unknown compression method \"{}\"; known: {}",
                                          options.method, fmt::join(method_names(), ", ")));
}

std::unique_ptr<Method> make_method(const ModelConstraint& constraint, const ModelShape& shape) {
  MethodOptions options;
  options.method = constraint.method;
  options.basis_seed = constraint.basis_seed;
  if (!constraint.variant.empty()) options.variant = constraint.variant;
  if (constraint.rank > 0) options.rank = constraint.rank;
  return make_method(options, shape, constraint.dtype);
}

ParameterSource converted(ParameterSource stored, const Method& from, const Method& to) {
  const bool same = from.constraint() == to.constraint();
  // States of another constraint mean nothing here, unless it is the same stored in another way.
  ModelConstraint there = from.constraint();
  there.variant = to.constraint().variant;
  const bool states = there == to.constraint();
  ParameterSource plain = [states, stored, &from](const std::string& name) {
    std::optional<ParameterState> p;
    if (states || !from.adds(name)) p = stored(name);
    return p ? p : from.to_plain(name, stored);
  };
  return
      [same, stored = std::move(stored), plain = std::move(plain), &to](const std::string& name) {
        std::optional<ParameterState> p;
        if (same) p = stored(name);
        if (!p) p = to.from_plain(name, plain);
        return p ? p : plain(name);
      };
}

std::vector<std::string> method_names() {
  std::vector<std::string> names;
  for (const Registered& m : kMethods) names.emplace_back(m.name);
  return names;
}

double output_projection_stddev(const ModelShape& shape) {
  return 0.02 / std::sqrt(2.0 * shape.layers);
}

std::unique_ptr<Embedding> Method::make_embedding(const MethodContext& c) const {
  return std::make_unique<DenseEmbedding>(c.parameters, c.seed, "model.embed_tokens.weight",
                                          c.shape.vocabulary, c.shape.width, 0.02);
}

std::unique_ptr<Projection> Method::make_projection(const MethodContext& c, const std::string& name,
                                                    int /*layer*/, int in, bool /*crosses*/) const {
  return std::make_unique<DenseProjection>(c.parameters, c.seed, name + ".weight", in,
                                           c.shape.width, output_projection_stddev(c.shape));
}

double fp16_gradient_factor(const Frame& frame) {
  return std::exp2(std::round(-std::log2(frame.loss_scale)));
}

void check_version(const Message& message, uint64_t version, const char* method) {
  if (message.version != version)
    throw std::runtime_error(fmt::format(
        "{}: a message was encoded with version {} of the codec's state; this end has version {}",
        method, message.version, version));
}

double sum_of_squares(Context& ctx, const Tensor& x) {
  ArenaScope scope(ctx.scratch);
  Tensor out = ctx.scratch.take({1}, DType::f64);
  ctx.ops.sum_squares(out, x);
  double value = 0;
  if (out.data != nullptr) ctx.ops.download(&value, out);
  return value;
}

std::vector<double> host_values(Backend& ops, const Tensor& t) {
  if (t.data == nullptr) return {};
  std::vector<double> values(static_cast<size_t>(t.elements()));
  if (t.dtype == DType::f64) {
    ops.download(values.data(), t);
    return values;
  }
  STRAIT_CHECK(t.dtype == DType::f32, "host_values: f32 or f64");
  std::vector<float> single(values.size());
  ops.download(single.data(), t);
  std::copy(single.begin(), single.end(), values.begin());
  return values;
}

void host_upload(Backend& ops, const Tensor& t, const std::vector<double>& values) {
  if (t.data == nullptr) return;
  STRAIT_CHECK(static_cast<int64_t>(values.size()) == t.elements(), "host_upload: the size");
  if (t.dtype == DType::f64) return ops.upload(t, values.data());
  std::vector<float> single;
  single.reserve(values.size());
  for (double x : values) single.push_back(static_cast<float>(x));
  ops.upload(t, single.data());
}

uint64_t hash_tensor(Backend& ops, const Tensor& t, uint64_t seed) {
  if (t.data == nullptr) return 0;
  std::string host(t.bytes(), '\0');
  ops.download(host.data(), t);
  return hash_name(host, seed);
}

}  // namespace strait
