// How the row-wise ops walk memory: groups of sixteen elements, the last group partly filled, with
// f32 or bf16 storage. Compiled once per instruction set, as all headers of this folder that
// mention V: every function in them is a template over V or over a lambda of such a template, so
// that no two of these compilations define the same symbol.
#pragma once

#include <cstdint>

#include "kernels/tensor.h"

namespace strait::cpu {

// A whole group of sixteen, or the first `count` < 16 of one.
struct All {};
struct First {
  int count;
};

template <class V, class T>
V load(const T* p, All) {
  return V::load(p);
}
template <class V, class T>
V load(const T* p, First first) {
  return V::load_part(p, first.count);
}
template <class V, class T>
void store(T* p, V x, All) {
  x.store(p);
}
template <class V, class T>
void store(T* p, V x, First first) {
  x.store_part(p, first.count);
}

// body(i, lanes) for i = 0, 16, 32, …; `lanes` is All until the last group, which may be First.
template <class Body>
void for_groups(int64_t n, const Body& body) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) body(i, All{});
  if (i < n) body(i, First{static_cast<int>(n - i)});
}

// Calls body with a float or a bfloat16, by the storage type.
template <class Body>
void by_type(DType t, const Body& body) {
  if (t == DType::bf16)
    body(bfloat16{});
  else
    body(float{});
}

}  // namespace strait::cpu
