// The harness of the op tests. A case is a function that declares operands and calls one op; a
// Runner carries it out on one backend. The same case runs on the subject (f32 or bf16 storage) and
// on the reference backend in f64, with inputs already rounded to the subject's storage, so that
// what differs is the op's own error.
//
// Outputs and all padding are filled with NaN before the call, padding must still be NaN after it.
// Memory of a device is only touched through upload and download.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/backend.h"
#include "kernels/cpu/cpu_backend.h"

namespace strait::testing {

// Where an operand's numbers are stored: as T, the op's element type, as S = statistics_of(T), or always in f64.
enum class Kind { element, statistic, f64 };

// Largest nrmse for f32 and for bf16 elements; 0 asks for equality.
struct Tolerance {
  double f32 = 0, bf16 = 0;
  double tensor_cores = bf16;  // bf16 on a backend whose second products take rounded factors
};
inline constexpr Tolerance kExact{0, 0};

inline double rounded(double x, DType t) {
  if (t == DType::f32) return static_cast<double>(static_cast<float>(x));
  if (t == DType::bf16)
    return static_cast<double>(static_cast<float>(bfloat16(static_cast<float>(x))));
  return x;
}

constexpr bool is_integer(DType t) { return t == DType::i32 || t == DType::u16 || t == DType::u8; }

inline std::vector<std::byte> encode(const std::vector<double>& values, DType t) {
  std::vector<std::byte> bytes(values.size() * size_of(t));
  for (size_t i = 0; i < values.size(); ++i) {
    std::byte* at = bytes.data() + i * size_of(t);
    const auto f = static_cast<float>(values[i]);
    const bfloat16 h(f);
    const auto integer = is_integer(t) ? static_cast<int32_t>(values[i]) : 0;
    if (t == DType::f64) std::memcpy(at, &values[i], 8);
    if (t == DType::f32) std::memcpy(at, &f, 4);
    if (t == DType::bf16) std::memcpy(at, &h, 2);
    if (is_integer(t)) std::memcpy(at, &integer, size_of(t));  // little-endian
    if (t == DType::f16) {
      const float16 half(f);
      std::memcpy(at, &half, 2);
    }
    if (t == DType::f8_e4m3) *at = static_cast<std::byte>(float8_e4m3(f).bits);
  }
  return bytes;
}

inline std::vector<double> decode(const std::vector<std::byte>& bytes, DType t) {
  std::vector<double> values(bytes.size() / size_of(t));
  for (size_t i = 0; i < values.size(); ++i) {
    const std::byte* at = bytes.data() + i * size_of(t);
    float f = 0;
    bfloat16 h;
    int32_t integer = 0;
    if (t == DType::f64) std::memcpy(&values[i], at, 8);
    if (t == DType::f32) std::memcpy(&f, at, 4), values[i] = static_cast<double>(f);
    if (t == DType::bf16)
      std::memcpy(&h, at, 2), values[i] = static_cast<double>(static_cast<float>(h));
    if (is_integer(t)) std::memcpy(&integer, at, size_of(t)), values[i] = integer;
    if (t == DType::f16) {
      float16 half;
      std::memcpy(&half, at, 2), values[i] = static_cast<double>(static_cast<float>(half));
    }
    if (t == DType::f8_e4m3)
      values[i] =
          static_cast<double>(static_cast<float>(float8_e4m3::of(static_cast<uint8_t>(*at))));
  }
  return values;
}

// Root of the summed squared error over that of the reference; equal infinities agree, NaN never
// does.
inline double nrmse(const std::vector<double>& actual, const std::vector<double>& expected) {
  double error = 0, norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    if (std::isinf(expected[i]) && actual[i] == expected[i]) continue;
    error += (actual[i] - expected[i]) * (actual[i] - expected[i]);
    norm += expected[i] * expected[i];
  }
  if (std::isnan(error)) return std::numeric_limits<double>::infinity();
  return norm > 0 ? std::sqrt(error / norm)
                  : (error > 0 ? std::numeric_limits<double>::infinity() : 0);
}

class Runner {
 public:
  // `stored` is the element type whose rounding the inputs have; `element` the one that the op
  // sees.
  Runner(Backend& backend, DType stored, DType element)
      : ops(backend), stored_(stored), element_(element) {}

  Backend& ops;
  DType stored() const { return stored_; }

  struct Output {
    std::string name;
    Tensor tensor;
    Tolerance tolerance;
    std::vector<double> values;
    std::vector<std::byte> bytes;
  };

  // A normal random input times `spread`; `pad` extra elements behind each row make it strided.
  Tensor input(Shape shape, Kind kind = Kind::element, double spread = 1, int64_t pad = 0) {
    return place(shape, dtype_of(kind), random(shape, kind, spread), pad);
  }
  Tensor input(Shape shape, Kind kind, const std::vector<double>& values, int64_t pad = 0) {
    std::vector<double> stored = values;
    for (double& x : stored) x = rounded(x, stored_as(kind));
    return place(shape, dtype_of(kind), stored, pad);
  }
  Tensor integers(Shape shape, const std::vector<int>& values, DType dtype = DType::i32) {
    return place(shape, dtype, std::vector<double>(values.begin(), values.end()), 0);
  }
  // An operand of the same type on both backends: what a message holds. Without values an output, which must be equal bit for bit.
  Tensor stored(Shape shape, DType dtype, const std::vector<double>& values) {
    return place(shape, dtype, values, 0);
  }
  Tensor stored_output(const std::string& name, Shape shape, DType dtype) {
    const double poison = is_integer(dtype) ? 77.0 : std::numeric_limits<double>::quiet_NaN();
    return watch(
        name,
        place(shape, dtype, std::vector<double>(static_cast<size_t>(shape.elements()), poison), 0),
        kExact);
  }
  // An output: poisoned, or random where the op adds to it or works in place.
  Tensor output(const std::string& name, Shape shape, Kind kind, Tolerance tolerance,
                bool random_before = false, int64_t pad = 0) {
    const std::vector<double> poison(static_cast<size_t>(shape.elements()),
                                     std::numeric_limits<double>::quiet_NaN());
    return watch(name,
                 place(shape, dtype_of(kind), random_before ? random(shape, kind, 1) : poison, pad),
                 tolerance);
  }
  // Compares a tensor that the op overwrites.
  Tensor watch(const std::string& name, const Tensor& tensor, Tolerance tolerance) {
    outputs_.push_back({name, tensor, tolerance, {}, {}});
    return tensor;
  }
  // Normal random numbers as `kind` stores them.
  std::vector<double> random(Shape shape, Kind kind, double spread) {
    std::vector<double> values(static_cast<size_t>(shape.elements()));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = rounded(spread * normal_at(Philox{7}, stream_, i), stored_as(kind));
    ++stream_;
    return values;
  }

  // After the op: the outputs, with a check that no padding was written.
  std::vector<Output> results() {
    for (Output& output : outputs_) {
      const Buffer& buffer = buffer_of(output.tensor);
      std::vector<std::byte> all(buffer.whole.bytes());
      ops.download(all.data(), buffer.whole);
      const std::vector<double> values = decode(all, buffer.whole.dtype);
      size_t inside = 0;
      for (size_t i = 0; i < values.size(); ++i) {
        if (inside < buffer.places.size() && buffer.places[inside] == i) {
          output.values.push_back(values[i]);
          const size_t size = size_of(buffer.whole.dtype);
          output.bytes.insert(output.bytes.end(), all.data() + i * size,
                              all.data() + (i + 1) * size);
          ++inside;
        } else {
          EXPECT_TRUE(std::isnan(values[i])) << output.name << ": padding was overwritten";
        }
      }
    }
    return outputs_;
  }

 private:
  struct Buffer {
    std::unique_ptr<DeviceMemory> memory;
    Tensor whole;                // contiguous
    Tensor view;                 // what the op gets
    std::vector<size_t> places;  // of the view's elements in the whole
  };

  DType dtype_of(Kind kind) const {
    return kind == Kind::f64       ? DType::f64
           : kind == Kind::element ? element_
                                   : statistics_of(element_);
  }
  DType stored_as(Kind kind) const {
    return kind == Kind::f64       ? DType::f64
           : kind == Kind::element ? stored_
                                   : statistics_of(stored_);
  }

  Tensor place(Shape shape, DType dtype, const std::vector<double>& values, int64_t pad) {
    // The dense tail of an operand (the last dimension, of a 4-d tensor the last two) is one row of
    // the buffer.
    const int64_t row = shape.rank == 4 ? shape[2] * shape[3] : shape[-1],
                  rows = shape.elements() / row;
    Buffer buffer;
    buffer.memory = ops.allocate(static_cast<size_t>(rows * (row + pad)) * size_of(dtype));
    buffer.whole = Tensor(buffer.memory->data(), dtype, {rows, row + pad});
    std::vector<double> all(static_cast<size_t>(rows * (row + pad)),
                            std::numeric_limits<double>::quiet_NaN());
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < row; ++c) {
        buffer.places.push_back(static_cast<size_t>(r * (row + pad) + pad / 2 + c));
        all[buffer.places.back()] = values[static_cast<size_t>(r * row + c)];
      }
    ops.upload(buffer.whole, encode(all, dtype).data());
    Tensor view = buffer.whole.slice(1, pad / 2, row);
    if (pad == 0) {
      view = buffer.whole.view(shape);
    } else if (shape.rank == 4) {
      view = Tensor(view.data, dtype, shape);
      view.strides = {shape[1] * (row + pad), row + pad, shape[3], 1};
    }
    buffer.view = view;
    buffers_.push_back(std::move(buffer));
    return view;
  }

  const Buffer& buffer_of(const Tensor& tensor) const {
    for (const Buffer& buffer : buffers_)
      if (buffer.view.data == tensor.data && buffer.view.shape == tensor.shape) return buffer;
    throw std::logic_error("no such operand");
  }

  DType stored_, element_;
  uint64_t stream_ = 0;
  std::vector<Buffer> buffers_;
  std::vector<Output> outputs_;
};

// GNU OpenMP forks and joins by futexes that ThreadSanitizer cannot see: with several threads inside an op every access of
// theirs looks like a race. Ranks with one thread each are checked.
#if defined(__SANITIZE_THREAD__)
inline constexpr bool kCanSeeOpenMp = false;
#else
inline constexpr bool kCanSeeOpenMp = true;
#endif

struct Case {
  Op op;
  std::string name;
  std::function<void(Runner&)> run;
};

inline std::vector<Runner::Output> run_case(const Case& c, Backend& ops, DType stored,
                                            DType element) {
  Runner runner(ops, stored, element);
  c.run(runner);
  ops.synchronize();
  return runner.results();
}

inline void expect_close(const std::vector<Runner::Output>& actual,
                         const std::vector<Runner::Output>& expected, DType stored,
                         bool tensor_cores) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i) {
    const Tolerance& tolerance = actual[i].tolerance;
    double bound = stored == DType::f32 ? tolerance.f32
                   : tensor_cores       ? tolerance.tensor_cores
                                        : tolerance.bf16;
    // The bounds are root mean squares; a handful of bf16 roundings may all be near the worst one,
    // 2^-8.
    if (actual[i].tensor.dtype == DType::bf16 && actual[i].tensor.elements() < 256 && bound > 0)
      bound = std::max(bound, 0x1p-8);
    const double error = nrmse(actual[i].values, expected[i].values);
    EXPECT_LE(error, bound) << actual[i].name << " " << to_string(actual[i].tensor.shape);
  }
}

inline void expect_same_bits(const std::vector<Runner::Output>& actual,
                             const std::vector<Runner::Output>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < actual.size(); ++i)
    EXPECT_TRUE(actual[i].bytes == expected[i].bytes)
        << actual[i].name << " " << to_string(actual[i].tensor.shape) << " differs in bits";
}

// The backends under test by name; null and a reason where this machine or build lacks one.
inline std::unique_ptr<Backend> make_subject(const std::string& name, std::string* reason,
                                             int threads = 1) {
  if (name == "cuda") return make_cuda_backend(reason);
  const cpu::InstructionSet set = name == "cpu_portable" ? cpu::InstructionSet::portable
                                  : name == "cpu_avx2"   ? cpu::InstructionSet::avx2
                                                         : cpu::available_instruction_sets().back();
  for (cpu::InstructionSet available : cpu::available_instruction_sets())
    if (available == set) return cpu::make_backend(threads, set);
  *reason = "this machine has no " + name + " instructions";
  return nullptr;
}
inline const std::vector<std::string>& subjects() {
  static const std::vector<std::string> names = {"cpu", "cpu_avx2", "cpu_portable", "cuda"};
  return names;
}

}  // namespace strait::testing
