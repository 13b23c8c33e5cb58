// A tensor is a view of device memory: data, dtype, shape, strides. It never owns and is passed by value.
// Strides are in elements; the last dimension is always dense. On the meta backend `data` is null.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels/check.h"
#include "kernels/dtype.h"

namespace strait {

// Up to four dimensions, outermost first.
struct Shape {
  int rank = 0;
  std::array<int64_t, 4> dims{};

  Shape() = default;
  Shape(std::initializer_list<int64_t> list) {
    STRAIT_CHECK(list.size() <= 4, "a shape has at most 4 dimensions");
    for (int64_t d : list) dims[static_cast<size_t>(rank++)] = d;
  }
  int64_t operator[](int i) const { return dims[static_cast<size_t>(i < 0 ? rank + i : i)]; }
  int64_t elements() const {
    int64_t n = 1;
    for (int i = 0; i < rank; ++i) n *= dims[static_cast<size_t>(i)];
    return n;
  }
  bool operator==(const Shape&) const = default;
};

std::string to_string(const Shape& shape);  // "(2, 64, 128)"

struct Tensor {
  void* data = nullptr;
  DType dtype = DType::f32;
  Shape shape;
  std::array<int64_t, 4>
      strides{};  // elements; strides of trailing dense dimensions equal those of a contiguous tensor

  Tensor() = default;
  Tensor(void* memory, DType type, Shape s) : data(memory), dtype(type), shape(s) {
    int64_t step = 1;
    for (int i = s.rank - 1; i >= 0; --i) {
      strides[static_cast<size_t>(i)] = step;
      step *= s.dims[static_cast<size_t>(i)];
    }
  }

  bool defined() const { return shape.rank > 0; }
  int64_t size(int dim) const { return shape[dim]; }
  int64_t stride(int dim) const {
    return strides[static_cast<size_t>(dim < 0 ? shape.rank + dim : dim)];
  }
  int64_t elements() const { return shape.elements(); }
  size_t bytes() const { return static_cast<size_t>(elements()) * size_of(dtype); }

  bool contiguous() const {
    int64_t step = 1;
    for (int i = shape.rank - 1; i >= 0; --i) {
      if (shape.dims[static_cast<size_t>(i)] != 1 && strides[static_cast<size_t>(i)] != step)
        return false;
      step *= shape.dims[static_cast<size_t>(i)];
    }
    return true;
  }

  // The same elements under another shape; the tensor must be contiguous.
  Tensor view(Shape s) const {
    STRAIT_CHECK(contiguous() && s.elements() == elements(),
                 "view " + to_string(shape) + " as " + to_string(s));
    return Tensor(data, dtype, s);
  }

  // Elements [begin, begin + length) of dimension `dim`; may leave the tensor strided.
  Tensor slice(int dim, int64_t begin, int64_t length) const {
    if (dim < 0) dim += shape.rank;
    STRAIT_CHECK(
        dim >= 0 && dim < shape.rank && begin >= 0 && length >= 0 && begin + length <= shape[dim],
        "slice of " + to_string(shape));
    Tensor t = *this;
    t.shape.dims[static_cast<size_t>(dim)] = length;
    if (data != nullptr)
      t.data =
          static_cast<std::byte*>(data) + static_cast<size_t>(begin * stride(dim)) * size_of(dtype);
    return t;
  }

  // Splits the last dimension into (outer, inner) without moving anything: (…, outer*inner) -> (…, outer, inner).
  Tensor split_last(int64_t outer, int64_t inner) const {
    STRAIT_CHECK(shape.rank < 4 && shape[-1] == outer * inner, "split_last of " + to_string(shape));
    Tensor t = *this;
    const auto r = static_cast<size_t>(shape.rank);
    t.shape.dims[r - 1] = outer;
    t.shape.dims[r] = inner;
    t.strides[r - 1] = inner;
    t.strides[r] = 1;
    t.shape.rank += 1;
    return t;
  }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data);
  }
};

}  // namespace strait
