#include "engine/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <memory>

namespace strait {
namespace {

using Work = std::function<void()>;

// A block of a model of 150 M parameters.
constexpr int64_t kWidth = 768, kFfn = 2048;

// Tokens at once: one sequence, or enough of them to fill a GPU.
int64_t rows_for(const Backend& ops) { return ops.host_memory() ? 1024 : 16384; }

class Bench {
 public:
  Bench(Backend& ops, double seconds) : ops_(ops), budget_(seconds) {}

  Tensor zeros(Shape shape, DType dtype) {
    memory_.push_back(ops_.allocate(static_cast<size_t>(shape.elements()) * size_of(dtype)));
    return Tensor(memory_.back()->data(), dtype, shape);
  }
  // Zeros would multiply faster on hardware whose clock follows its power.
  Tensor random(Shape shape, DType dtype) {
    const Tensor t = zeros(shape, dtype);
    ops_.random_normal(t, Philox{1}, memory_.size(), 1.0);
    return t;
  }
  void release() { memory_.clear(); }

  // Seconds of one call: of the fastest round, whose calls take some milliseconds together, so that waiting for a device at
  // its end does not count.
  double time(const Work& work) {
    round(work, 1);
    int64_t calls = 1;
    double seconds = round(work, calls);
    while (seconds < kRound && calls < 1'000'000) seconds = round(work, calls *= 2);
    double best = seconds;
    const auto begin = Clock::now();
    for (int i = 0; i < 3 || since(begin) < budget_; ++i) best = std::min(best, round(work, calls));
    return best / static_cast<double>(calls);
  }

  // One op, with what it books.
  MeasuredOp measure(const std::string& name, const Work& work) {
    std::vector<OpCost> costs;
    ops_.set_cost_sink(&costs);
    work();
    ops_.set_cost_sink(nullptr);
    MeasuredOp op{name, time(work), 0, 0, false, 0};
    for (const OpCost& cost : costs) {
      op.flops += static_cast<double>(cost.flops);
      op.bytes += static_cast<double>(cost.bytes);
    }
    return op;
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr double kRound = 5e-3;

  static double since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
  }
  double round(const Work& work, int64_t calls) {
    ops_.synchronize();
    const auto begin = Clock::now();
    for (int64_t i = 0; i < calls; ++i) work();
    ops_.synchronize();
    return since(begin);
  }

  Backend& ops_;
  double budget_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
};

// Larger and larger, until one takes long enough to show the best rate.
double best_product_rate(Backend& ops, Bench& bench, DType dtype) {
  double best = 0;
  for (int64_t n = 256; n <= 8192; n *= 2) {
    const Tensor a = bench.random({n, n}, dtype), b = bench.random({n, n}, dtype),
                 y = bench.zeros({n, n}, dtype);
    const double seconds = bench.time([&] { ops.matmul(y, a, false, b, true, false); });
    best = std::max(best, 2.0 * std::pow(static_cast<double>(n), 3) / seconds);
    bench.release();
    if (seconds > 0.05) break;
  }
  return best;
}

// Vectors of 32 MiB and more, which no cache of a processor core keeps.
double best_memory_rate(Backend& ops, Bench& bench) {
  double best = 0;
  for (int64_t n = int64_t{1} << 23; n <= int64_t{1} << 26; n *= 2) {
    const Tensor a = bench.zeros({n}, DType::f32), b = bench.zeros({n}, DType::f32),
                 y = bench.zeros({n}, DType::f32);
    ops.fill(a, 1.0);  // pages of zeros that nobody wrote may share one page of memory
    ops.fill(b, 1.0);
    best = std::max(best, 12.0 * static_cast<double>(n) / bench.time([&] { ops.add(y, a, b); }));
    bench.release();
  }
  return best;
}

void measure_products(Backend& ops, Bench& bench, DType dtype, std::vector<MeasuredOp>& all) {
  const int64_t rows = rows_for(ops);
  const auto product = [&](int64_t m, int64_t n, int64_t k, bool transpose_a, bool transpose_b,
                           bool accumulate) {
    const Tensor a = bench.random(transpose_a ? Shape{k, m} : Shape{m, k}, dtype),
                 b = bench.random(transpose_b ? Shape{n, k} : Shape{k, n}, dtype),
                 y = bench.zeros({m, n}, accumulate ? DType::f32 : dtype);
    all.push_back(bench.measure(
        fmt::format("matmul {}x{}x{} {}{}", m, n, k, name_of(dtype), accumulate ? " +=" : ""),
        [&] { ops.matmul(y, a, transpose_a, b, transpose_b, accumulate); }));
    bench.release();
  };
  for (const auto& [out, in] : {std::pair{3 * kWidth, kWidth}, std::pair{kWidth, kWidth},
                                std::pair{2 * kFfn, kWidth}, std::pair{kWidth, kFfn}}) {
    product(rows, out, in, false, true, false);   // forward
    product(rows, in, out, false, false, false);  // gradient of the input
    product(out, in, rows, true, false, true);    // gradient of the weight
  }
}

void measure_attention(Backend& ops, Bench& bench, DType dtype, int64_t context, int64_t head_width,
                       std::vector<MeasuredOp>& all) {
  const int64_t batch = std::max<int64_t>(1, rows_for(ops) / context), count = kWidth / head_width;
  const Shape heads{batch, context, count, head_width}, rows{batch, count, context};
  const Tensor q = bench.random(heads, dtype), k = bench.random(heads, dtype),
               v = bench.random(heads, dtype), o = bench.zeros(heads, dtype),
               dout = bench.random(heads, dtype), dq = bench.zeros(heads, dtype),
               dk = bench.zeros(heads, dtype), dv = bench.zeros(heads, dtype),
               lse = bench.zeros(rows, DType::f32), delta = bench.zeros(rows, DType::f32),
               positions = bench.zeros({context}, DType::i32);
  std::vector<int32_t> host(static_cast<size_t>(context));
  for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<int32_t>(i);
  ops.upload(positions, host.data());
  const AttentionMask mask{positions, positions, {}, {}, true};
  const double scale = 1 / std::sqrt(static_cast<double>(head_width));
  const auto name = [&](const char* which) {
    return fmt::format("{} B={} T={} H={} Dh={} {}", which, batch, context, count, head_width,
                       name_of(dtype));
  };
  all.push_back(bench.measure(name("attention_forward"),
                              [&] { ops.attention_forward(o, lse, q, k, v, mask, scale); }));
  ops.attention_delta(delta, dout, o);
  all.push_back(bench.measure(name("attention_backward"), [&] {
    ops.attention_backward(dq, dk, dv, dout, q, k, v, lse, delta, mask, scale, false);
  }));
  bench.release();
}

void measure_streams(Backend& ops, Bench& bench, DType dtype, std::vector<MeasuredOp>& all) {
  const int64_t rows = rows_for(ops);
  const Tensor x = bench.random({rows, kWidth}, dtype), y = bench.zeros({rows, kWidth}, dtype),
               dx = bench.zeros({rows, kWidth}, dtype), w = bench.random({kWidth}, dtype),
               dw = bench.zeros({kWidth}, DType::f32), rstd = bench.zeros({rows}, DType::f32),
               gate_up = bench.random({rows, 2 * kFfn}, dtype),
               hidden = bench.random({rows, kFfn}, dtype);
  const auto measure = [&](const char* op, const Work& work) {
    all.push_back(bench.measure(fmt::format("{} {}", op, name_of(dtype)), work));
  };
  measure("rmsnorm_forward", [&] { ops.rmsnorm_forward(y, rstd, x, w, 1e-5); });
  measure("rmsnorm_backward", [&] { ops.rmsnorm_backward(dx, dw, y, x, w, rstd, false); });
  measure("swiglu_forward", [&] { ops.swiglu_forward(hidden, gate_up); });
  const Tensor dgate_up = bench.zeros({rows, 2 * kFfn}, dtype);
  measure("swiglu_backward", [&] { ops.swiglu_backward(dgate_up, hidden, gate_up); });
  measure("add", [&] { ops.add(y, x, dx); });
  bench.release();
  const int64_t n = int64_t{1} << 22;
  const Tensor master = bench.random({n}, DType::f32),
               compute = dtype == DType::f32 ? master : bench.zeros({n}, dtype),
               m = bench.zeros({n}, DType::f32), v = bench.zeros({n}, DType::f32),
               grad = bench.zeros({n}, DType::f32), one = bench.zeros({1}, DType::f32);
  ops.fill(one, 1.0);
  measure("adamw", [&] { ops.adamw(master, compute, m, v, grad, one, {.lr = 1e-3}); });
  bench.release();
}

// Fills in what bounds each op and its share, and the two efficiencies.
void rate(Calibration& c, std::vector<MeasuredOp>& ops, double flops_rate, double& ideal_compute,
          double& compute, double& ideal_memory, double& memory) {
  for (MeasuredOp& op : ops) {
    const double arithmetic = op.flops / flops_rate, traffic = op.bytes / c.memory_bytes;
    op.compute_bound = arithmetic > traffic;
    op.share = std::max(arithmetic, traffic) / op.seconds;
    (op.compute_bound ? ideal_compute : ideal_memory) += std::max(arithmetic, traffic);
    (op.compute_bound ? compute : memory) += op.seconds;
  }
  c.ops.insert(c.ops.end(), ops.begin(), ops.end());
}

}  // namespace

Calibration calibrate(Backend& ops, double seconds) {
  Bench bench(ops, seconds);
  Calibration c;
  c.fp32_flops = best_product_rate(ops, bench, DType::f32);
  c.bf16_matrix_flops = best_product_rate(ops, bench, DType::bf16);
  c.memory_bytes = best_memory_rate(ops, bench);
  const Tensor few = bench.zeros({64}, DType::f32);
  c.launch_seconds = bench.time([&] { ops.scale(few, 1.0); });
  bench.release();
  double ideal_compute = 0, compute = 0, ideal_memory = 0, memory = 0;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    std::vector<MeasuredOp> matrix, vector;
    measure_products(ops, bench, dtype, matrix);
    measure_attention(ops, bench, dtype, 1024, 64, matrix);
    if (!ops.host_memory()) measure_attention(ops, bench, dtype, 2048, 128, matrix);
    measure_streams(ops, bench, dtype, vector);
    rate(c, matrix, dtype == DType::bf16 ? c.bf16_matrix_flops : c.fp32_flops, ideal_compute,
         compute, ideal_memory, memory);
    rate(c, vector, c.fp32_flops, ideal_compute, compute, ideal_memory, memory);
  }
  // What stays in a cache may exceed the rate of the memory; a device's share of its peak does not exceed 1.
  c.compute_efficiency = compute > 0 ? std::min(1.0, ideal_compute / compute) : 1.0;
  c.memory_efficiency = memory > 0 ? std::min(1.0, ideal_memory / memory) : 1.0;
  return c;
}

}  // namespace strait
