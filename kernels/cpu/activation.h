// SiLU, ReLU and GELU, forward and backward. Element-local: one pass over memory each.
#pragma once

#include "kernels/cpu/elementwise.h"
#include "kernels/cpu/swiglu.h"

namespace strait::cpu {

// What the logistic function of a gate sees, t, and dt/dx: SiLU t = x, GELU t = 2 sqrt(2/pi) (x + 0.044715 x^3).
template <class V>
struct Gate {
  V t, slope;
  Gate(V x, Activation activation) : t(x), slope(V::set1(1.0f)) {
    if (activation == Activation::silu) return;
    const V twice = V::set1(1.5957691216057308f), cubic = V::set1(0.044715f), square = x * x;
    t = twice * x * fma(cubic, square, V::set1(1.0f));
    slope = twice * fma(V::set1(3.0f) * cubic, square, V::set1(1.0f));
  }
};

template <class V>
void activation_forward(Tensor y, Tensor x, Activation activation, int threads) {
  by_type(y.dtype, [&](auto element) {
    using T = decltype(element);
    for_chunks(threads, y.elements(), [&](int64_t begin, int64_t end) {
      T* out = y.as<T>() + begin;
      const T* in = x.as<const T>() + begin;
      for_groups(end - begin, [&](int64_t i, auto lanes) {
        const V value = load<V>(in + i, lanes);
        store(out + i,
              activation == Activation::relu ? where_less(value, V::zero(), V::zero(), value)
                                             : value * logistic(Gate<V>(value, activation).t),
              lanes);
      });
    });
  });
}

template <class V>
void activation_backward(Tensor dx, Tensor dy, Tensor x, Activation activation, int threads) {
  by_type(dy.dtype, [&](auto element) {
    using T = decltype(element);
    for_chunks(threads, dy.elements(), [&](int64_t begin, int64_t end) {
      T* out = dx.as<T>() + begin;
      const T *in = x.as<const T>() + begin, *gradient = dy.as<const T>() + begin;
      for_groups(end - begin, [&](int64_t i, auto lanes) {
        const V value = load<V>(in + i, lanes), d = load<V>(gradient + i, lanes),
                one = V::set1(1.0f);
        if (activation == Activation::relu) {
          store(out + i, where_less(V::zero(), value, d, V::zero()), lanes);
          return;
        }
        const Gate<V> gate(value, activation);
        const V s = logistic(gate.t);
        store(out + i, d * s * fma(value * gate.slope, one - s, one), lanes);
      });
    });
  });
}

}  // namespace strait::cpu
