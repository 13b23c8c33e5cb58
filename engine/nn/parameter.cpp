#include "engine/nn/parameter.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace strait {
namespace {

constexpr int64_t kAlignElements = 64;

int64_t padded(int64_t n) { return (n + kAlignElements - 1) / kAlignElements * kAlignElements; }

// Host values rounded once to `t.dtype`, then uploaded.
void upload_values(Backend& ops, const Tensor& t, const std::vector<double>& values) {
  std::vector<std::byte> host(t.bytes());
  for (size_t i = 0; i < values.size(); ++i) {
    const auto f = static_cast<float>(values[i]);
    switch (t.dtype) {
      case DType::f64:
        reinterpret_cast<double*>(host.data())[i] = values[i];
        break;
      case DType::f32:
        reinterpret_cast<float*>(host.data())[i] = f;
        break;
      case DType::bf16:
        reinterpret_cast<bfloat16*>(host.data())[i] = bfloat16(f);
        break;
      case DType::i32:
        reinterpret_cast<int32_t*>(host.data())[i] = static_cast<int32_t>(values[i]);
        break;
      default:
        STRAIT_CHECK(false, "parameters are floats, constants floats or i32");
    }
  }
  ops.upload(t, host.data());
}

}  // namespace

Initialiser zeros() {
  return [](std::vector<double>& v) { std::fill(v.begin(), v.end(), 0.0); };
}

Initialiser ones() {
  return [](std::vector<double>& v) { std::fill(v.begin(), v.end(), 1.0); };
}

Initialiser normal(uint64_t seed, std::string name, double stddev) {
  return [seed, stream = hash_name(name), stddev](std::vector<double>& v) {
    const Philox rng{seed};
    for (size_t i = 0; i < v.size(); ++i) v[i] = stddev * normal_at(rng, stream, i);
  };
}

const char* name_of(ParameterGroup group) {
  constexpr std::array<const char*, kParameterGroups> names = {"matrix", "embedding",  "head",
                                                               "vector", "bottleneck", "anchor"};
  return names[static_cast<size_t>(group)];
}

Parameter* ParameterList::declare(std::string name, Shape shape, ParameterGroup group,
                                  Initialiser init) {
  return declare(std::move(name), shape, group, group != ParameterGroup::vector, std::move(init));
}

Parameter* ParameterList::declare(std::string name, Shape shape, ParameterGroup group, bool decay,
                                  Initialiser init) {
  STRAIT_CHECK(!value_.defined(), "declare() after allocate()");
  for (const Parameter& p : parameters_)
    STRAIT_CHECK(p.name != name, "parameter declared twice: " + name);
  Parameter& p = parameters_.emplace_back();
  p.name = std::move(name);
  p.shape = shape;
  p.group = group;
  p.decay = decay;
  p.init = std::move(init);
  return &p;
}

Buffer* ParameterList::declare_buffer(std::string name, Shape shape, DType dtype, Initialiser init,
                                      bool saved) {
  for (Buffer& b : buffers_) {
    if (b.name == name) {
      STRAIT_CHECK(b.shape == shape && b.dtype == dtype && b.saved == saved,
                   "buffer declared twice in different ways: " + name);
      return &b;
    }
  }
  STRAIT_CHECK(!value_.defined(), "declare() after allocate()");
  buffers_.push_back({std::move(name), shape, dtype, std::move(init), saved, false, false, {}});
  return &buffers_.back();
}

Buffer* ParameterList::declare_constant(std::string name, Shape shape, DType dtype,
                                        Initialiser init) {
  return declare_buffer(std::move(name), shape, dtype, std::move(init), false);
}

Buffer* ParameterList::declare_state(std::string name, Shape shape, DType dtype, Initialiser init) {
  STRAIT_CHECK(dtype == DType::f32 || dtype == DType::f64, "states are f32 or f64: " + name);
  return declare_buffer(std::move(name), shape, dtype, std::move(init), true);
}

Buffer* ParameterList::declare_sum(std::string name, Shape shape, DType dtype) {
  return declare_buffer(std::move(name), shape, dtype, zeros(), false);
}

int64_t ParameterList::trainable() const {
  int64_t n = 0;
  for (const Parameter& p : parameters_) n += p.shape.elements();
  return n;
}

void ParameterList::lay_out() {
  offsets_.assign(parameters_.size(), 0);
  ranges_.clear();
  elements_ = second_moments_ = 0;
  int ranges = 0;
  for (const Parameter& p : parameters_) ranges = std::max(ranges, p.range + 1);
  for (int id = 0; id < ranges; ++id) {
    const int64_t begin = elements_;
    for (size_t i = 0; i < parameters_.size(); ++i) {
      const Parameter& p = parameters_[i];
      if (p.range != id) continue;
      STRAIT_CHECK(
          !p.second_moment || second_moments_ == elements_,
          "parameters without a second moment an element lie behind the others: " + p.name);
      offsets_[i] = elements_;
      elements_ += padded(p.shape.elements());
      if (p.second_moment) second_moments_ = elements_;
    }
    if (elements_ > begin) ranges_.push_back({id, begin, elements_});
  }
}

// Places every flat buffer and every other one after another: in `region`, or nowhere, which counts.
void ParameterList::bind(Arena& region) {
  const DType s = statistics_of(dtype_);
  lay_out();
  master_ = region.take({elements_}, s);
  value_ = dtype_ == s ? master_ : region.take({elements_}, dtype_);
  grad_ = region.take({elements_}, s);
  m_ = region.take({elements_}, s);
  v_ = region.take({second_moments_}, s);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Parameter& p = parameters_[i];
    auto part = [&](const Tensor& flat) {
      return flat.slice(0, offsets_[i], p.shape.elements()).view(p.shape);
    };
    p.value = part(value_);
    p.grad = part(grad_);
    p.master = part(master_);
    p.m = part(m_);
    p.v = p.second_moment ? part(v_) : p.row_moments ? region.take({p.shape[0]}, s) : Tensor{};
  }
  for (Buffer& b : buffers_) b.value = region.take(b.shape, b.dtype);
}

void ParameterList::allocate(Backend& ops) {
  Arena counting;
  bind(counting);
  bytes_ = counting.high_water();
  memory_ = ops.allocate(bytes_);
  if (memory_->data() != nullptr) {
    Arena region(memory_->data(), bytes_, "parameters");
    bind(region);
  }
  if (std::strcmp(ops.name(), "meta") == 0) return;
  std::vector<double> host;
  for (Parameter& p : parameters_) {
    host.assign(static_cast<size_t>(p.shape.elements()), 0.0);
    p.init(host);
    upload_values(ops, p.master, host);
    if (dtype_ != statistics_of(dtype_)) upload_values(ops, p.value, host);
  }
  for (Buffer& b : buffers_) {
    host.assign(static_cast<size_t>(b.shape.elements()), 0.0);
    b.init(host);
    upload_values(ops, b.value, host);
  }
}

Parameter& ParameterList::find(const std::string& name) {
  for (Parameter& p : parameters_) {
    if (p.name == name) return p;
  }
  throw std::out_of_range("no parameter is called " + name);
}

}  // namespace strait
