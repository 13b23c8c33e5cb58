// Every op of the cpu backend on one thread, as a share of this machine's roofline: peak GFLOP/s of
// oneDNN's matrix product (f32 and bf16) and bandwidth of a copy too large for any cache, both
// measured first. The share of an op is max(FLOPs / peak, bytes / bandwidth) / its time; it exceeds
// 1 where data stay in cache. A matrix product is also compared with oneDNN's own primitive on the
// same shape ("ceiling").
//
//   bench_ops --benchmark_filter=attention --benchmark_repetitions=5
//
// Times are CPU times of one thread; even so, timings on a machine that does something else mean
// little: look at the load average that is printed first.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <cstring>
#include <ctime>
#include <dnnl.hpp>
#include <functional>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace {

using strait::Backend;
using strait::DType;
using strait::Shape;
using strait::Tensor;

// CPU seconds of this thread: what the benchmark's own rates are made of.
double thread_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Seconds of the fastest of several runs.
double fastest(const std::function<void()>& run) {
  double best = 1e9, total = 0;
  for (int i = 0; i < 1000 && (i < 5 || total < 0.3); ++i) {
    const double begin = thread_seconds();
    run();
    const double seconds = thread_seconds() - begin;
    best = std::min(best, seconds);
    total += seconds;
  }
  return best;
}

// y (M,N) = a (M,K) b^T by oneDNN itself, with a primitive made beforehand.
double onednn_seconds(int64_t M, int64_t N, int64_t K, DType dtype) {
  using dnnl::memory;
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const auto type = dtype == DType::bf16 ? memory::data_type::bf16 : memory::data_type::f32;
  const memory::desc a({M, K}, type, memory::dims{K, 1}), b({K, N}, type, memory::dims{1, K}),
      y({M, N}, memory::data_type::f32, memory::dims{N, 1});
  const dnnl::matmul product(dnnl::matmul::primitive_desc(dnnl::matmul::desc(a, b, y), engine));
  memory ma(a, engine), mb(b, engine), my(y, engine);
  for (memory* m : {&ma, &mb}) std::memset(m->get_data_handle(), 0x3c, m->get_desc().get_size());
  return fastest([&] {
    product.execute(stream, {{DNNL_ARG_SRC, ma}, {DNNL_ARG_WEIGHTS, mb}, {DNNL_ARG_DST, my}});
    stream.wait();
  });
}

struct Roofline {
  double f32 = 0, bf16 = 0, bandwidth = 0;  // FLOP/s, FLOP/s, bytes/s

  static Roofline measure() {
    Roofline r;
    for (int64_t n : {256, 512, 1024}) {
      const double flops = 2.0 * static_cast<double>(n * n * n);
      r.f32 = std::max(r.f32, flops / onednn_seconds(n, n, n, DType::f32));
      r.bf16 = std::max(r.bf16, flops / onednn_seconds(n, n, n, DType::bf16));
    }
    std::vector<char> from(size_t{128} << 20, 1), to(from.size());
    r.bandwidth = 2.0 * static_cast<double>(from.size()) /
                  fastest([&] { std::memcpy(to.data(), from.data(), from.size()); });
    return r;
  }
  double seconds(const std::vector<strait::OpCost>& costs) const {
    double total = 0;
    for (const auto& c : costs)
      total += std::max(static_cast<double>(c.flops) / (c.bf16 && c.matrix ? bf16 : f32),
                        static_cast<double>(c.bytes) / bandwidth);
    return total;
  }
};
Roofline roofline;

// Operands of one benchmark: random numbers in memory that lives as long as it.
class Operands {
 public:
  explicit Operands(Backend& ops) : ops_(ops) {}
  Tensor random(Shape shape, DType dtype) {
    const Tensor t = zeros(shape, dtype);
    ops_.random_normal(t, strait::Philox{1}, memory_.size(), 1.0);
    return t;
  }
  Tensor zeros(Shape shape, DType dtype) {
    memory_.push_back(ops_.allocate(static_cast<size_t>(shape.elements()) * size_of(dtype)));
    return Tensor(memory_.back()->data(), dtype, shape);
  }
  Tensor integers(int64_t n, int64_t modulus) {
    const Tensor t = zeros({n}, DType::i32);
    for (int64_t i = 0; i < n; ++i) t.as<int32_t>()[i] = static_cast<int32_t>(i * 7919 % modulus);
    return t;
  }
  Tensor positions(int64_t n) {
    const Tensor t = zeros({n}, DType::i32);
    for (int64_t i = 0; i < n; ++i) t.as<int32_t>()[i] = static_cast<int32_t>(i);
    return t;
  }

 private:
  Backend& ops_;
  std::vector<std::unique_ptr<strait::DeviceMemory>> memory_;
};

using Prepare = std::function<std::function<void(Backend&)>(Operands&, DType)>;

void measure(benchmark::State& state, const Prepare& prepare, DType dtype, double ceiling_seconds) {
  const auto ops = strait::make_cpu_backend(1);
  Operands operands(*ops);
  const auto op = prepare(operands, dtype);
  std::vector<strait::OpCost> costs;
  ops->set_cost_sink(&costs);
  op(*ops);
  ops->set_cost_sink(nullptr);
  for (auto _ : state) op(*ops);
  double flops = 0, bytes = 0;
  for (const auto& c : costs)
    flops += static_cast<double>(c.flops), bytes += static_cast<double>(c.bytes);
  const auto rate = benchmark::Counter::kIsIterationInvariantRate;
  state.counters["GFLOP/s"] = benchmark::Counter(flops / 1e9, rate);
  state.counters["GB/s"] = benchmark::Counter(bytes / 1e9, rate);
  state.counters["share"] = benchmark::Counter(roofline.seconds(costs), rate);
  if (ceiling_seconds > 0) state.counters["of_onednn"] = benchmark::Counter(ceiling_seconds, rate);
}

void add(const std::string& name, const Prepare& prepare) {
  for (DType dtype : {DType::f32, DType::bf16})
    benchmark::RegisterBenchmark(fmt::format("{}/{}", name, strait::name_of(dtype)).c_str(),
                                 [=](benchmark::State& s) { measure(s, prepare, dtype, 0); });
}

// The three products of a linear layer of N out of K features over M tokens.
void add_matmul(int64_t M, int64_t N, int64_t K) {
  for (DType dtype : {DType::f32, DType::bf16})
    for (int which = 0; which < 3; ++which) {
      const char* name = which == 0 ? "y=x*w'" : which == 1 ? "dx=dy*w" : "dw+=dy'*x";
      const Prepare prepare = [=](Operands& o, DType t) -> std::function<void(Backend&)> {
        const Tensor x = o.random({M, K}, t), w = o.random({N, K}, t), dy = o.random({M, N}, t),
                     dw = o.zeros({N, K}, DType::f32);
        if (which == 0) return [=](Backend& ops) { ops.matmul(dy, x, false, w, true, false); };
        if (which == 1) return [=](Backend& ops) { ops.matmul(x, dy, false, w, false, false); };
        return [=](Backend& ops) { ops.matmul(dw, dy, true, x, false, true); };
      };
      const auto run = [=](benchmark::State& s) {
        measure(s, prepare, dtype, onednn_seconds(M, N, K, dtype));
      };
      benchmark::RegisterBenchmark(
          fmt::format("matmul {} M={} N={} K={}/{}", name, M, N, K, strait::name_of(dtype)).c_str(),
          run);
    }
}

void add_attention(int64_t B, int64_t T, int64_t H, int64_t Hkv, int64_t Dh) {
  const std::string sizes = fmt::format("B={} T={} H={}/{} Dh={}", B, T, H, Hkv, Dh);
  const auto operands = [=](Operands& o, DType t, bool backward) -> std::function<void(Backend&)> {
    // Packed rows, as the engine has them.
    const Tensor rows = o.random({B, T, (H + 2 * Hkv) * Dh}, t), gradient = o.zeros(rows.shape, t);
    const auto part = [=](const Tensor& packed, int64_t head, int64_t heads) {
      return packed.slice(2, head * Dh, heads * Dh).split_last(heads, Dh);
    };
    const Tensor q = part(rows, 0, H), k = part(rows, H, Hkv), v = part(rows, H + Hkv, Hkv);
    const Tensor dq = part(gradient, 0, H), dk = part(gradient, H, Hkv),
                 dv = part(gradient, H + Hkv, Hkv);
    const Tensor o_out = o.zeros({B, T, H, Dh}, t), dout = o.random({B, T, H, Dh}, t),
                 lse = o.zeros({B, H, T}, DType::f32), delta = o.zeros({B, H, T}, DType::f32);
    strait::AttentionMask mask;
    mask.q_position = mask.k_position = o.positions(T);
    const double scale = 0.1;
    if (!backward)
      return [=](Backend& ops) { ops.attention_forward(o_out, lse, q, k, v, mask, scale); };
    const auto ops = strait::make_cpu_backend(1);
    ops->attention_forward(o_out, lse, q, k, v, mask, scale);
    return [=](Backend& b) {
      b.attention_backward(dq, dk, dv, dout, q, k, v, lse, delta, mask, scale, false);
    };
  };
  add("attention_merge " + sizes, [=](Operands& o, DType t) -> std::function<void(Backend&)> {
    const Tensor sum = o.zeros({B, T, H, Dh}, DType::f32), block = o.random({B, T, H, Dh}, t),
                 lse = o.zeros({B, H, T}, DType::f32), other = o.zeros({B, H, T}, DType::f32);
    return [=](Backend& b) { b.attention_merge(sum, lse, block, other); };
  });
  add("attention_forward " + sizes, [=](Operands& o, DType t) { return operands(o, t, false); });
  add("attention_backward " + sizes, [=](Operands& o, DType t) { return operands(o, t, true); });
}

// The ops between the products, for N tokens of width C, ffn F, vocabulary V.
void add_rows(int64_t N, int64_t C, int64_t F, int64_t V) {
  using Run = std::function<void(Backend&)>;
  const std::string sizes = fmt::format("N={} C={}", N, C);
  add("rmsnorm_forward " + sizes, [=](Operands& o, DType t) -> Run {
    const Tensor y = o.zeros({N, C}, t), r = o.zeros({N}, DType::f32), x = o.random({N, C}, t),
                 w = o.random({C}, t);
    return [=](Backend& ops) { ops.rmsnorm_forward(y, r, x, w, 1e-5); };
  });
  add("add_rmsnorm_forward " + sizes, [=](Operands& o, DType t) -> Run {
    const Tensor y = o.zeros({N, C}, t), r = o.zeros({N}, DType::f32), x = o.random({N, C}, t),
                 d = o.random({N, C}, t), w = o.random({C}, t), s = o.zeros({N, C}, t);
    return [=](Backend& ops) { ops.add_rmsnorm_forward(s, y, r, x, d, w, 1e-5); };
  });
  add("rmsnorm_backward " + sizes, [=](Operands& o, DType t) -> Run {
    const Tensor dx = o.zeros({N, C}, t), dw = o.zeros({C}, DType::f32), dy = o.random({N, C}, t),
                 x = o.random({N, C}, t), w = o.random({C}, t), r = o.random({N}, DType::f32);
    return [=](Backend& ops) { ops.rmsnorm_backward(dx, dw, dy, x, w, r, true); };
  });
  add(fmt::format("rope N={} H={} Dh=32", N, C / 32), [=](Operands& o, DType t) -> Run {
    const Tensor x = o.random({1, N, C / 32, 32}, t), table = o.random({N, 32}, DType::f32),
                 p = o.positions(N);
    return [=](Backend& ops) { ops.rope(x, table, p, false); };
  });
  add(fmt::format("swiglu_forward N={} F={}", N, F), [=](Operands& o, DType t) -> Run {
    const Tensor y = o.zeros({N, F}, t), g = o.random({N, 2 * F}, t);
    return [=](Backend& ops) { ops.swiglu_forward(y, g); };
  });
  add(fmt::format("swiglu_backward N={} F={}", N, F), [=](Operands& o, DType t) -> Run {
    const Tensor d = o.zeros({N, 2 * F}, t), dy = o.random({N, F}, t), g = o.random({N, 2 * F}, t);
    return [=](Backend& ops) { ops.swiglu_backward(d, dy, g); };
  });
  add(fmt::format("activation_forward silu N={} F={}", N, F), [=](Operands& o, DType t) -> Run {
    const Tensor y = o.zeros({N, F}, t), x = o.random({N, F}, t);
    return [=](Backend& ops) { ops.activation_forward(y, x, strait::Activation::silu); };
  });
  add(fmt::format("activation_backward silu N={} F={}", N, F), [=](Operands& o, DType t) -> Run {
    const Tensor d = o.zeros({N, F}, t), dy = o.random({N, F}, t), x = o.random({N, F}, t);
    return [=](Backend& ops) { ops.activation_backward(d, dy, x, strait::Activation::silu); };
  });
  add(fmt::format("cross_entropy N={} V={}", N, V), [=](Operands& o, DType t) -> Run {
    const Tensor loss = o.zeros({N}, DType::f32), z = o.random({N, V}, t),
                 targets = o.integers(N, V);
    return [=](Backend& ops) { ops.cross_entropy(loss, z, targets, 1.0, true); };
  });
  add(fmt::format("gather_rows N={} C={}", N, C), [=](Operands& o, DType t) -> Run {
    const Tensor y = o.zeros({N, C}, t), table = o.random({V, C}, t), ids = o.integers(N, V);
    return [=](Backend& ops) { ops.gather_rows(y, table, ids); };
  });
  add(fmt::format("scatter_add_rows N={} C={}", N, C), [=](Operands& o, DType t) -> Run {
    const Tensor dy = o.random({N, C}, t), table = o.zeros({V, C}, DType::f32),
                 ids = o.integers(N, V);
    return [=](Backend& ops) { ops.scatter_add_rows(table, dy, ids); };
  });
  add(fmt::format("add_gathered_rows N={} C={}", N, C), [=](Operands& o, DType t) -> Run {
    const Tensor y = o.zeros({N, C}, t), x = o.random({N, C}, t), table = o.random({V, C}, t),
                 ids = o.integers(N, V);
    return [=](Backend& ops) { ops.add_gathered_rows(y, x, table, ids, -1.0); };
  });
  add(fmt::format("put_rows N={} C={}", N, C), [=](Operands& o, DType t) -> Run {
    const Tensor table = o.zeros({V, C}, t), x = o.random({N, C}, t), ids = o.positions(N);
    return [=](Backend& ops) { ops.put_rows(table, x, ids); };
  });
}

// The ops of the codecs of rows, for N tokens of width C of which an eighth is kept.
void add_row_codecs(int64_t N, int64_t C) {
  using Run = std::function<void(Backend&)>;
  const std::string sizes = fmt::format("N={} C={}", N, C);
  const int64_t k = C / 8;
  add("quantize_rows int4 " + sizes, [=](Operands& o, DType t) -> Run {
    const Tensor q = o.zeros({N, C / 2}, DType::u8), scale = o.zeros({N, 1}, DType::bf16),
                 x = o.random({N, C}, t);
    return [=](Backend& ops) { ops.quantize_rows(q, scale, x, strait::Quantization::int4, C, {}); };
  });
  add("dequantize_rows int4 " + sizes, [=](Operands& o, DType t) -> Run {
    const Tensor x = o.zeros({N, C}, t), q = o.zeros({N, C / 2}, DType::u8),
                 scale = o.zeros({N, 1}, DType::bf16);
    return [=](Backend& ops) { ops.dequantize_rows(x, q, scale, strait::Quantization::int4, C); };
  });
  add(fmt::format("topk_rows {} k={}", sizes, k), [=](Operands& o, DType t) -> Run {
    const Tensor values = o.zeros({N, k}, t), indices = o.zeros({N, k}, DType::u16),
                 x = o.random({N, C}, t);
    return [=](Backend& ops) { ops.topk_rows(values, indices, x); };
  });
  const auto entries = [=](Operands& o, DType t, bool gather) -> Run {
    const Tensor values = o.random({N, k}, t), indices = o.zeros({N, k}, DType::u16),
                 x = o.random({N, C}, t);
    for (int64_t i = 0; i < N * k; ++i)
      indices.as<uint16_t>()[i] = static_cast<uint16_t>(8 * (i % k));
    if (gather) return [=](Backend& ops) { ops.gather_entries(values, x, indices); };
    return [=](Backend& ops) { ops.scatter_entries(x, values, indices); };
  };
  add(fmt::format("gather_entries {} k={}", sizes, k),
      [=](Operands& o, DType t) { return entries(o, t, true); });
  add(fmt::format("scatter_entries {} k={}", sizes, k),
      [=](Operands& o, DType t) { return entries(o, t, false); });
  add("column_sum_squares " + sizes, [=](Operands& o, DType t) -> Run {
    const Tensor sums = o.zeros({C}, DType::f32), x = o.random({N, C}, t);
    return [=](Backend& ops) { ops.column_sum_squares(sums, x); };
  });
}

// Vector quantisation of N latents of r columns in G groups with K codes each, all in f32.
void add_vq(int64_t N, int64_t r, int64_t G, int64_t K) {
  using Run = std::function<void(Backend&)>;
  const std::string sizes = fmt::format("N={} r={} G={} K={}", N, r, G, K);
  const auto add_f32 = [](const std::string& name, const std::function<Run(Operands&)>& prepare) {
    benchmark::RegisterBenchmark((name + "/f32").c_str(), [=](benchmark::State& s) {
      measure(
          s, [&](Operands& o, DType) { return prepare(o); }, DType::f32, 0);
    });
  };
  const auto indices = [=](Operands& o, int64_t below) {
    const Tensor index = o.zeros({N, G}, DType::u16);
    for (int64_t i = 0; i < N * G; ++i)
      index.as<uint16_t>()[i] = static_cast<uint16_t>(i * 7919 % below);
    return index;
  };
  add_f32("vq_encode " + sizes, [=](Operands& o) -> Run {
    const Tensor index = o.zeros({N, G}, DType::u16), z = o.random({N, r}, DType::f32),
                 codebook = o.random({K, r}, DType::f32);
    return [=](Backend& ops) { ops.vq_encode(index, z, codebook); };
  });
  add_f32("vq_decode " + sizes, [=](Operands& o) -> Run {
    const Tensor index = indices(o, K), y = o.zeros({N, r}, DType::f32),
                 codebook = o.random({K, r}, DType::f32);
    return [=](Backend& ops) { ops.vq_decode(y, index, codebook, 1.0); };
  });
  add_f32("vq_statistics " + sizes, [=](Operands& o) -> Run {
    const Tensor index = indices(o, K), z = o.random({N, r}, DType::f32),
                 count = o.zeros({K, G}, DType::f32), sum = o.zeros({K, r}, DType::f32);
    return [=](Backend& ops) { ops.vq_statistics(count, sum, z, index); };
  });
  add_f32("vq_update " + sizes, [=](Operands& o) -> Run {
    const Tensor count = o.zeros({K, G}, DType::f32), sum = o.zeros({K, r}, DType::f32),
                 batch_count = o.zeros({K, G}, DType::f32),
                 batch_sum = o.random({K, r}, DType::f32), donors = o.random({K, r}, DType::f32);
    return [=](Backend& ops) {
      ops.vq_update(count, sum, batch_count, batch_sum, donors, 0.99, 0.01);
    };
  });
  add_f32("vq_centroids " + sizes, [=](Operands& o) -> Run {
    const Tensor y = o.zeros({K, r}, DType::f32), sum = o.random({K, r}, DType::f32),
                 count = o.random({K, G}, DType::f32), rows = o.positions(K);
    return [=](Backend& ops) { ops.vq_centroids(y, sum, count, rows); };
  });
  for (const int bits : {6, 8}) {
    add_f32(fmt::format("pack_bits n={} bits={}", N * G, bits), [=](Operands& o) -> Run {
      const Tensor bytes = o.zeros({(N * G * bits + 7) / 8}, DType::u8),
                   values = indices(o, int64_t{1} << bits);
      return [=](Backend& ops) { ops.pack_bits(bytes, values, bits); };
    });
    add_f32(fmt::format("unpack_bits n={} bits={}", N * G, bits), [=](Operands& o) -> Run {
      const Tensor bytes = o.zeros({(N * G * bits + 7) / 8}, DType::u8),
                   values = o.zeros({N, G}, DType::u16);
      return [=](Backend& ops) { ops.unpack_bits(values, bytes, bits); };
    });
  }
}

void add_flat(int64_t n) {
  using Run = std::function<void(Backend&)>;
  add(fmt::format("add n={}", n), [=](Operands& o, DType t) -> Run {
    const Tensor y = o.zeros({n}, t), a = o.random({n}, t), b = o.random({n}, t);
    return [=](Backend& ops) { ops.add(y, a, b); };
  });
  add(fmt::format("axpy n={}", n), [=](Operands& o, DType t) -> Run {
    const Tensor y = o.zeros({n}, DType::f32), x = o.random({n}, t);
    return [=](Backend& ops) { ops.axpy(y, 0.5, x); };
  });
  add(fmt::format("scale n={}", n), [=](Operands& o, DType t) -> Run {
    const Tensor y = o.random({n}, t);
    return [=](Backend& ops) { ops.scale(y, -1.0); };
  });
  add(fmt::format("cast to f32 n={}", n), [=](Operands& o, DType t) -> Run {
    const Tensor y = o.zeros({n}, DType::f32), x = o.random({n}, t);
    return [=](Backend& ops) { ops.cast(y, x); };
  });
  add(fmt::format("fill n={}", n), [=](Operands& o, DType t) -> Run {
    const Tensor y = o.zeros({n}, t);
    return [=](Backend& ops) { ops.fill(y, 0.0); };
  });
  add(fmt::format("sum n={}", n), [=](Operands& o, DType t) -> Run {
    const Tensor out = o.zeros({1}, DType::f32), x = o.random({n}, t);
    return [=](Backend& ops) { ops.sum(out, x); };
  });
  add(fmt::format("sum_squares n={}", n), [=](Operands& o, DType t) -> Run {
    const Tensor out = o.zeros({1}, DType::f32), x = o.random({n}, t);
    return [=](Backend& ops) { ops.sum_squares(out, x); };
  });
  add(fmt::format("dot_rows N=4 C={}", n / 4), [=](Operands& o, DType t) -> Run {
    const Tensor y = o.zeros({4}, DType::f32), a = o.random({4, n / 4}, t),
                 b = o.random({4, n / 4}, DType::f32);
    return [=](Backend& ops) { ops.dot_rows(y, a, b, false); };
  });
  add("bound_forward n=16", [=](Operands& o, DType) -> Run {
    const Tensor x = o.random({16}, DType::f32);
    return [=](Backend& ops) { ops.bound_forward(x, x, strait::Bound::hard, 0.5); };
  });
  add("bound_backward n=16", [=](Operands& o, DType) -> Run {
    const Tensor d = o.random({16}, DType::f32), x = o.random({16}, DType::f32);
    return [=](Backend& ops) { ops.bound_backward(d, d, x, strait::Bound::hard, 0.5); };
  });
  add("rotation_coefficients N=16 J=3", [=](Operands& o, DType) -> Run {
    const Tensor f = o.zeros({16, 3}, DType::f32), x = o.random({16}, DType::f32);
    return [=](Backend& ops) {
      ops.rotation_coefficients(f, x, strait::RotationSeries::powers, false);
    };
  });
  add("add_statistics n=1", [=](Operands& o, DType) -> Run {
    const Tensor y = o.zeros({1}, DType::f64), x = o.zeros({1}, DType::f64);
    return [=](Backend& ops) { ops.add_statistics(y, x, y); };
  });
  add("clip_factor", [=](Operands& o, DType) -> Run {
    const Tensor factor = o.zeros({1}, DType::f32), squares = o.zeros({1}, DType::f64);
    return [=](Backend& ops) { ops.clip_factor(factor, squares, 1.0); };
  });
  add(fmt::format("adamw n={}", n), [=](Operands& o, DType t) -> Run {
    const Tensor p = o.random({n}, DType::f32), c = t == DType::f32 ? p : o.zeros({n}, t),
                 m = o.zeros({n}, DType::f32), v = o.zeros({n}, DType::f32),
                 g = o.random({n}, DType::f32), one = o.zeros({1}, DType::f32);
    return [=](Backend& ops) { ops.adamw(p, c, m, v, g, one, {.lr = 1e-3}); };
  });
  add(fmt::format("adamw_rows n={}", n), [=](Operands& o, DType t) -> Run {
    const int64_t columns = 1024, rows = n / columns;
    const Tensor p = o.random({rows, columns}, DType::f32),
                 c = t == DType::f32 ? p : o.zeros({rows, columns}, t),
                 m = o.zeros({rows, columns}, DType::f32), v = o.zeros({rows}, DType::f32),
                 g = o.random({rows, columns}, DType::f32), one = o.zeros({1}, DType::f32);
    return [=](Backend& ops) { ops.adamw_rows(p, c, m, v, g, one, {.lr = 1e-3}); };
  });
  add(fmt::format("combine n={}", n), [=](Operands& o, DType t) -> Run {
    const Tensor y = o.zeros({n}, t), x = o.random({n}, t), z = o.random({n}, t);
    return [=](Backend& ops) { ops.combine(y, 0.5, x, -0.5, z); };
  });
  add(fmt::format("normalise n={}", n), [=](Operands& o, DType t) -> Run {
    const Tensor y = o.zeros({n}, t), x = o.random({n}, t), squares = o.zeros({1}, DType::f64);
    return [=](Backend& ops) { ops.normalise(y, x, squares, 1.0, 1.0); };
  });
  add(fmt::format("momentum n={}", n), [=](Operands& o, DType t) -> Run {
    const Tensor u = o.zeros({n}, t), m = o.zeros({n}, DType::f32), g = o.random({n}, DType::f32),
                 one = o.zeros({1}, DType::f32);
    return [=](Backend& ops) { ops.momentum(u, m, g, one, 0.95, true); };
  });
  add(fmt::format("random_normal n={}", n), [=](Operands& o, DType t) -> Run {
    const Tensor y = o.zeros({n}, t);
    return [=](Backend& ops) { ops.random_normal(y, strait::Philox{1}, 0, 1.0); };
  });
}

}  // namespace

int main(int argc, char** argv) {
  omp_set_num_threads(1);
  roofline = Roofline::measure();
  fmt::print("roofline: {:.0f} GFLOP/s f32, {:.0f} GFLOP/s bf16, copy {:.1f} GB/s\n",
             roofline.f32 / 1e9, roofline.bf16 / 1e9, roofline.bandwidth / 1e9);
  // A linear layer, a gate-and-up projection, a head and a narrow projection of small models.
  add_matmul(1024, 256, 256);
  add_matmul(1024, 1408, 256);
  add_matmul(1024, 4096, 256);
  add_matmul(1024, 64, 768);
  add_attention(8, 128, 4, 4, 32);
  add_attention(4, 256, 8, 8, 32);
  add_attention(4, 256, 8, 4, 64);
  add_attention(1, 1024, 8, 2, 128);
  add_rows(1024, 256, 704, 4096);
  add_row_codecs(2048, 1024);
  add_vq(2048, 256, 16, 256);
  add_flat(int64_t{1} << 22);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
