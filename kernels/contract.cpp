// The checks behind every op (kernels/contract.h).
#include "kernels/contract.h"

#include <fmt/format.h>

namespace strait {
namespace {

std::string describe(const Tensor& t) {
  return fmt::format("{} {}", name_of(t.dtype), to_string(t.shape));
}

bool share_memory(const Tensor& a, const Tensor& b) {
  if (a.data == nullptr || b.data == nullptr) return false;
  if (!a.contiguous() || !b.contiguous()) return a.data == b.data;
  const auto* a_begin = a.as<const std::byte>();
  const auto* b_begin = b.as<const std::byte>();
  return a_begin < b_begin + b.bytes() && b_begin < a_begin + a.bytes();
}

}  // namespace

void Contract::fail(const std::string& message) const {
  check_failed(__FILE__, __LINE__, name_of(op_), message);
}

void Contract::require(bool condition, const std::string& message) const {
  if (!condition) fail(message);
}

void Contract::rank(const Operand& x, int rank) const {
  if (!x.tensor.defined()) fail(fmt::format("{} is undefined", x.name));
  if (x.tensor.shape.rank != rank)
    fail(fmt::format("{} is {}, but must have {} dimensions", x.name, describe(x.tensor), rank));
  for (int i = 0; i < rank; ++i)
    if (x.tensor.size(i) < 1)
      fail(fmt::format("{} is {}: empty dimensions are not allowed", x.name, describe(x.tensor)));
}

DType Contract::float_type(const Operand& x) const {
  const DType t = x.tensor.dtype;
  if (!is_float(t))
    fail(fmt::format("{} is {}, but must be a float tensor", x.name, describe(x.tensor)));
  if (t == DType::f64 && !has_f64_)
    fail(fmt::format("{} is {}: f64 exists on the reference backend only", x.name,
                     describe(x.tensor)));
  return t;
}

void Contract::is(const Operand& x, DType dtype, const Shape& shape, Layout required) const {
  rank(x, shape.rank);
  if (x.tensor.dtype != dtype || x.tensor.shape != shape)
    fail(fmt::format("{} is {}, but must be {} {}", x.name, describe(x.tensor), name_of(dtype),
                     to_string(shape)));
  layout(x, required);
}

void Contract::is_either(const Operand& x, DType t, const Shape& shape, Layout required) const {
  const DType s = statistics_of(t);
  if (x.tensor.dtype != t && x.tensor.dtype != s)
    fail(fmt::format("{} is {}, but must be {} or {} {}", x.name, describe(x.tensor), name_of(t),
                     name_of(s), to_string(shape)));
  is(x, x.tensor.dtype, shape, required);
}

void Contract::layout(const Operand& x, Layout required) const {
  const Tensor& t = x.tensor;
  if (computes_ && t.data == nullptr) fail(fmt::format("{} {} has no memory", x.name, describe(t)));
  const bool dense_last = t.size(-1) == 1 || t.stride(-1) == 1;
  const bool dense_two =
      dense_last && (t.shape.rank < 2 || t.size(-2) == 1 || t.stride(-2) == t.size(-1));
  const char* rule = nullptr;
  if (required == Layout::contiguous && !t.contiguous()) rule = "must be contiguous";
  if (required == Layout::rows && !dense_last) rule = "must be dense in its last dimension";
  if (required == Layout::heads && !dense_two) rule = "must be dense in its last two dimensions";
  if (rule == nullptr) return;
  std::string strides = "(";
  for (int i = 0; i < t.shape.rank; ++i)
    strides += fmt::format("{}{}", i == 0 ? "" : ", ", t.stride(i));
  fail(fmt::format("{} {} with strides {}) {}", x.name, describe(t), strides, rule));
}

void Contract::no_alias(const Operand& output, std::initializer_list<Operand> inputs) const {
  for (const Operand& input : inputs)
    if (share_memory(output.tensor, input.tensor))
      fail(fmt::format("{} shares memory with {}", output.name, input.name));
}

void Contract::may_be(const Operand& output, const Operand& input) const {
  const bool itself = output.tensor.data == input.tensor.data &&
                      output.tensor.dtype == input.tensor.dtype &&
                      output.tensor.strides == input.tensor.strides;
  if (!itself && share_memory(output.tensor, input.tensor))
    fail(fmt::format("{} overlaps {} without being the same tensor", output.name, input.name));
}

}  // namespace strait
