// Checks of an op's operands against kernels/backend.h. Every violation is a std::logic_error that
// names the op, the operand, what was found and what is allowed.
#pragma once

#include <initializer_list>
#include <string>

#include "kernels/backend.h"
#include "kernels/check.h"
#include "kernels/tensor.h"

namespace strait {

// How densely an operand has to lie in memory.
enum class Layout {
  contiguous,
  rows,   // the last dimension is dense, rows may be strided
  heads,  // the last two dimensions are dense, the others may be strided
};

struct Operand {
  const char* name;
  Tensor tensor;
};

class Contract {
 public:
  Contract(Op op, bool computes, bool has_f64) : op_(op), computes_(computes), has_f64_(has_f64) {}

  // The dimensions of `x` may be read: it is defined, has `rank` dimensions, none of them empty.
  void rank(const Operand& x, int rank) const;
  // The float type T of `x`: f32 or bf16, f64 where the backend has it.
  DType float_type(const Operand& x) const;
  // `x` has exactly this dtype and shape, memory, and a layout that the op takes.
  void is(const Operand& x, DType dtype, const Shape& shape,
          Layout layout = Layout::contiguous) const;
  // As `is`, for an operand of type T or S = statistics_of(T).
  void is_either(const Operand& x, DType t, const Shape& shape,
                 Layout layout = Layout::contiguous) const;
  // `output` shares no memory with any of the inputs. Strided operands are compared by their first
  // element only: the columns of one matrix may interleave without overlapping.
  void no_alias(const Operand& output, std::initializer_list<Operand> inputs) const;
  // `output` is `input` itself or shares no memory with it.
  void may_be(const Operand& output, const Operand& input) const;
  void require(bool condition, const std::string& message) const;

 private:
  void layout(const Operand& x, Layout layout) const;
  [[noreturn]] void fail(const std::string& message) const;

  Op op_;
  bool computes_;
  bool has_f64_;
};

}  // namespace strait
