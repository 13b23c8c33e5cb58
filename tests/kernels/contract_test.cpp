// Every op refuses operands that break kernels/backend.h with a std::logic_error that names the op,
// the operand, what it is and what it must be; on every backend, before anything is computed or
// booked.
#include <gmock/gmock.h>

#include "tests/kernels/harness.h"

namespace strait::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

class Contract : public ::testing::Test {
 protected:
  Tensor t(DType dtype, Shape shape) {
    memory_.push_back(ops_->allocate(static_cast<size_t>(shape.elements()) * size_of(dtype)));
    return Tensor(memory_.back()->data(), dtype, shape);
  }
  Tensor f32(Shape shape) { return t(DType::f32, shape); }
  Tensor i32(Shape shape) { return t(DType::i32, shape); }

  template <typename... Parts>
  void expect_refused(const std::function<void()>& call, Parts... parts) {
    std::vector<OpCost> booked;
    ops_->set_cost_sink(&booked);
    try {
      call();
      ADD_FAILURE() << "was accepted";
    } catch (const std::logic_error& error) {
      EXPECT_THAT(error.what(), AllOf(HasSubstr(parts)...));
    }
    EXPECT_TRUE(booked.empty());
  }

  std::unique_ptr<Backend> ops_ = make_cpu_backend(1);
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
};

TEST_F(Contract, OfMatmul) {
  const Tensor y = f32({3, 4}), a = f32({3, 5}), b = f32({5, 4});
  expect_refused(
      [&] {
        ops_->matmul(y, a, false, f32({4, 4}), false, false);
      },
      "matmul", "b is f32 (4, 4)", "must be f32 (5, 4)");
  expect_refused([&] { ops_->matmul(y, a, true, b, false, false); }, "matmul", "b is f32 (5, 4)",
                 "(3, 4)");
  expect_refused(
      [&] {
        ops_->matmul(f32({3, 3}), a, false, b, false, false);
      },
      "matmul", "y is f32 (3, 3)", "(3, 4)");
  expect_refused(
      [&] {
        ops_->matmul(t(DType::bf16, {3, 4}), a, false, b, false, false);
      },
      "matmul", "y is bf16", "f32");
  expect_refused(
      [&] {
        ops_->matmul(y, a, false, t(DType::bf16, {5, 4}), false, false);
      },
      "matmul", "b is bf16");
  expect_refused(
      [&] {
        ops_->matmul(y, i32({3, 5}), false, b, false, false);
      },
      "matmul", "a is i32", "float");
  expect_refused(
      [&] {
        ops_->matmul(t(DType::f64, {3, 4}), t(DType::f64, {3, 5}), false, t(DType::f64, {5, 4}),
                     false, false);
      },
      "matmul", "f64");
  expect_refused(
      [&] {
        ops_->matmul(y, f32({3, 5, 1}), false, b, false, false);
      },
      "matmul", "a is f32 (3, 5, 1)", "2 dimensions");
  expect_refused([&] { ops_->matmul(y, Tensor(), false, b, false, false); }, "matmul",
                 "a is undefined");
  expect_refused(
      [&] {
        ops_->matmul(y, Tensor(nullptr, DType::f32, {3, 5}), false, b, false, false);
      },
      "matmul", "a", "no memory");
  const Tensor square = f32({4, 4});
  expect_refused(
      [&] {
        ops_->matmul(square, square, false, f32({4, 4}), false, false);
      },
      "matmul", "y shares memory with a");
  Tensor columns = f32({8, 3});
  std::swap(columns.shape.dims[0], columns.shape.dims[1]);
  columns.strides = {1, 3, 0, 0};
  expect_refused(
      [&] {
        ops_->matmul(f32({3, 4}), columns, false, f32({8, 4}), false, false);
      },
      "matmul", "a", "dense in its last dimension");
}

TEST_F(Contract, OfNormalisation) {
  const Tensor x = f32({3, 8}), w = f32({8}), rstd = f32({3}), y = f32({3, 8});
  expect_refused([&] { ops_->rmsnorm_forward(y, f32({8}), x, w, 1e-5); }, "rmsnorm_forward", "rstd",
                 "(3)");
  expect_refused([&] { ops_->rmsnorm_forward(x, rstd, x, w, 1e-5); }, "rmsnorm_forward",
                 "y shares memory with x");
  expect_refused(
      [&] {
        ops_->rmsnorm_forward(f32({3, 16}).slice(1, 0, 8), rstd, x, w, 1e-5);
      },
      "rmsnorm_forward", "y", "strides (16, 1)", "contiguous");
  expect_refused(
      [&] {
        ops_->add_rmsnorm_forward(f32({3, 8}), y, rstd, x, f32({3, 9}), w, 1e-5);
      },
      "add_rmsnorm_forward", "delta");
  expect_refused(
      [&] {
        ops_->add_rmsnorm_forward(y, y, rstd, x, f32({3, 8}), w, 1e-5);
      },
      "add_rmsnorm_forward", "y shares memory with sum");
  expect_refused(
      [&] {
        ops_->rmsnorm_backward(y, t(DType::bf16, {8}), f32({3, 8}), x, w, rstd, false);
      },
      "rmsnorm_backward", "dw is bf16");
}

TEST_F(Contract, OfRope) {
  const Tensor x = f32({1, 2, 3, 8}), table = f32({4, 8}), positions = i32({2});
  expect_refused(
      [&] {
        ops_->rope(f32({1, 2, 3, 7}), f32({4, 7}), positions, false);
      },
      "rope", "width 7 is odd");
  expect_refused([&] { ops_->rope(x, f32({4, 6}), positions, false); }, "rope", "table");
  expect_refused([&] { ops_->rope(x, table, i32({3}), false); }, "rope", "positions");
  const std::vector<int32_t> far = {0, 4};
  ops_->upload(positions, far.data());
  expect_refused([&] { ops_->rope(x, table, positions, false); }, "rope", "positions[1] is 4",
                 "[0, 4)");
}

TEST_F(Contract, OfSwiglu) {
  expect_refused(
      [&] {
        ops_->swiglu_forward(f32({2, 4}), f32({2, 4}));
      },
      "swiglu_forward", "gate_up is f32 (2, 4)", "(2, 8)");
  expect_refused(
      [&] {
        ops_->swiglu_backward(f32({2, 4}), f32({2, 4}), f32({2, 8}));
      },
      "swiglu_backward", "dgate_up");
}

TEST_F(Contract, OfActivations) {
  const Tensor x = f32({4});
  expect_refused([&] { ops_->activation_forward(f32({3}), x, Activation::silu); },
                 "activation_forward", "x is f32 (4)");
  expect_refused([&] { ops_->activation_forward(i32({4}), x, Activation::relu); },
                 "activation_forward", "y is i32");
  expect_refused([&] { ops_->activation_backward(x, f32({4}), x, Activation::gelu); },
                 "activation_backward", "dx shares memory with x");
}

TEST_F(Contract, OfAngles) {
  const Tensor x = f32({4}), f = f32({4, 3});
  expect_refused([&] { ops_->bound_forward(f32({3}), x, Bound::hard, 1); }, "bound_forward",
                 "x is f32 (4)");
  expect_refused([&] { ops_->bound_forward(f32({4}), x, Bound::hard, 0); }, "bound_forward",
                 "limit is 0");
  expect_refused([&] { ops_->bound_backward(x, f32({4}), x, Bound::tanh, 1); }, "bound_backward",
                 "dx shares memory with x");
  expect_refused([&] { ops_->bound_backward(x, x, f32({4}), Bound::tanh, -1); }, "bound_backward",
                 "limit is -1");
  expect_refused([&] { ops_->rotation_coefficients(f, f32({3}), RotationSeries::powers, false); },
                 "rotation_coefficients", "angle is f32 (3)");
  expect_refused(
      [&] {
        ops_->rotation_coefficients(f32({4, 2}), x, RotationSeries::plane, false);
      },
      "rotation_coefficients", "a rotation in a plane has 3");
  expect_refused(
      [&] {
        ops_->dot_rows(f32({3}), f, f32({4, 3}), false);
      },
      "dot_rows", "y is f32 (3)");
  expect_refused([&] { ops_->dot_rows(x, f, f32({4, 2}), false); }, "dot_rows", "b is f32 (4, 2)");
  expect_refused([&] { ops_->dot_rows(x, f, i32({4, 3}), false); }, "dot_rows", "b is i32");
}

TEST_F(Contract, OfAttention) {
  const Tensor q = f32({1, 5, 4, 8}), k = f32({1, 6, 2, 8}), v = f32({1, 6, 2, 8}),
               o = f32({1, 5, 4, 8}), lse = f32({1, 4, 5});
  AttentionMask mask;
  mask.q_position = i32({5});
  mask.k_position = i32({6});
  expect_refused(
      [&] {
        ops_->attention_forward(o, lse, q, f32({1, 6, 3, 8}), f32({1, 6, 3, 8}), mask, 1);
      },
      "attention_forward", "4 query heads", "3 key heads");
  expect_refused(
      [&] {
        ops_->attention_forward(o, f32({1, 5, 4}), q, k, v, mask, 1);
      },
      "attention_forward", "lse", "(1, 4, 5)");
  expect_refused(
      [&] {
        ops_->attention_forward(o, lse, q, k, f32({1, 5, 2, 8}), mask, 1);
      },
      "attention_forward", "v is");
  expect_refused([&] { ops_->attention_forward(q, lse, q, k, v, mask, 1); }, "attention_forward",
                 "o shares memory with q");
  expect_refused([&] { ops_->attention_delta(lse, q, f32({1, 5, 4, 7})); }, "attention_delta");
  expect_refused(
      [&] {
        ops_->attention_backward(f32({1, 5, 4, 8}), f32({1, 6, 2, 8}), f32({1, 5, 2, 8}), o, q, k,
                                 v, lse, lse, mask, 1, false);
      },
      "attention_backward", "dv");
  expect_refused(
      [&] {
        ops_->attention_merge(o, lse, f32({1, 5, 4, 7}), f32({1, 4, 5}));
      },
      "attention_merge", "o_block", "(1, 5, 4, 8)");
  expect_refused(
      [&] {
        ops_->attention_merge(o, lse, q, f32({1, 5, 4}));
      },
      "attention_merge", "lse_block", "(1, 4, 5)");
  expect_refused(
      [&] {
        ops_->attention_merge(o, lse, o, f32({1, 4, 5}));
      },
      "attention_merge", "o shares memory with o_block");
  expect_refused([&] { ops_->attention_merge(o, lse, q, lse); }, "attention_merge",
                 "lse shares memory with lse_block");
  expect_refused(
      [&] {
        ops_->attention_merge(t(DType::bf16, {1, 5, 4, 8}), lse, q, f32({1, 4, 5}));
      },
      "attention_merge", "o is bf16");
  AttentionMask half = mask;
  half.q_document = i32({1, 5});
  expect_refused([&] { ops_->attention_forward(o, lse, q, k, v, half, 1); }, "attention_forward",
                 "k_document");
  AttentionMask wrong = mask;
  wrong.k_position = i32({5});
  expect_refused([&] { ops_->attention_forward(o, lse, q, k, v, wrong, 1); }, "attention_forward",
                 "k_position", "(6)");
}

TEST_F(Contract, OfVectorQuantisation) {
  const Tensor z = f32({5, 6}), index = t(DType::u16, {5, 3}), codebook = f32({4, 6});
  expect_refused([&] { ops_->vq_encode(i32({5, 3}), z, codebook); }, "vq_encode", "index is i32");
  expect_refused(
      [&] {
        ops_->vq_encode(t(DType::u16, {5, 4}), z, codebook);
      },
      "vq_encode", "6 columns do not divide into 4 groups");
  expect_refused([&] { ops_->vq_encode(index, z, f32({4, 5})); }, "vq_encode", "codebook");
  expect_refused([&] { ops_->vq_decode(z, index, f32({4, 5}), 1); }, "vq_decode", "codebook");
  expect_refused(
      [&] {
        ops_->vq_statistics(f32({4, 2}), codebook, z, index);
      },
      "vq_statistics", "count");
  expect_refused(
      [&] {
        ops_->vq_update(f32({4, 3}), codebook, f32({4, 3}), f32({4, 6}), f32({3, 6}), 1, 0);
      },
      "vq_update", "donors");
  expect_refused(
      [&] {
        ops_->vq_centroids(f32({2, 6}), codebook, f32({4, 3}), i32({3}));
      },
      "vq_centroids", "y");
  expect_refused([&] { ops_->put_rows(codebook, f32({2, 6}), i32({3})); }, "put_rows", "ids");
  const Tensor values = t(DType::u16, {10});
  expect_refused([&] { ops_->pack_bits(t(DType::u8, {5}), values, 3); }, "pack_bits", "bytes",
                 "(4)");
  expect_refused([&] { ops_->unpack_bits(values, t(DType::u8, {20}), 17); }, "unpack_bits",
                 "bits is 17");
}

TEST_F(Contract, OfRowsAndLoss) {
  const Tensor table = f32({4, 3}), ids = i32({2}), y = f32({2, 3});
  expect_refused([&] { ops_->gather_rows(y, f32({4, 5}), ids); }, "gather_rows", "table");
  expect_refused(
      [&] {
        ops_->scatter_add_rows(t(DType::bf16, {4, 3}), y, ids);
      },
      "scatter_add_rows", "dtable is bf16");
  expect_refused(
      [&] {
        ops_->add_gathered_rows(y, f32({2, 3}), table, i32({3}), 1);
      },
      "add_gathered_rows", "ids");
  expect_refused(
      [&] {
        ops_->cross_entropy(f32({2}), f32({2, 5}), i32({3}), 1, true);
      },
      "cross_entropy", "targets");
  const std::vector<int32_t> bad = {0, -1};
  ops_->upload(ids, bad.data());
  expect_refused([&] { ops_->gather_rows(y, table, ids); }, "gather_rows", "ids[1] is -1",
                 "[0, 4)");
  expect_refused([&] { ops_->scatter_add_rows(table, y, ids); }, "scatter_add_rows", "ids[1]");
  expect_refused(
      [&] {
        ops_->add_gathered_rows(y, f32({2, 3}), table, ids, 1);
      },
      "add_gathered_rows", "ids[1]");
  const std::vector<int32_t> high = {0, 5};
  ops_->upload(ids, high.data());
  expect_refused(
      [&] {
        ops_->cross_entropy(f32({2}), f32({2, 5}), ids, 1, true);
      },
      "cross_entropy", "targets[1] is 5", "[-1, 5)");
}

TEST_F(Contract, OfCodecOps) {
  const Tensor x = f32({2, 6}), q = t(DType::u8, {2, 6}), scale = t(DType::bf16, {2, 2});
  expect_refused([&] { ops_->quantize_rows(q, scale, x, Quantization::int8, 7, {}); },
                 "quantize_rows", "group is 7", "[1, 6]");
  expect_refused(
      [&] {
        ops_->quantize_rows(t(DType::u8, {2, 3}), scale, x, Quantization::int4, 3, {});
      },
      "quantize_rows", "group is 3", "even");
  expect_refused([&] { ops_->quantize_rows(q, scale, x, Quantization::fp8, 4, {}); },
                 "quantize_rows", "q is u8", "f8_e4m3");
  expect_refused(
      [&] {
        ops_->quantize_rows(t(DType::f8_e4m3, {2, 6}), scale, x, Quantization::fp8, 4,
                            {.stochastic = true});
      },
      "quantize_rows", "stochastic");
  expect_refused(
      [&] {
        ops_->dequantize_rows(x, q, f32({2, 2}), Quantization::int8, 4);
      },
      "dequantize_rows", "scale is f32");
  const Tensor values = f32({2, 3}), indices = t(DType::u8, {2, 3});
  expect_refused([&] { ops_->topk_rows(values, i32({2, 3}), x); }, "topk_rows", "indices is i32");
  expect_refused([&] { ops_->topk_rows(values, t(DType::u8, {1, 3}), x); }, "topk_rows", "(2, 3)");
  expect_refused(
      [&] {
        ops_->topk_rows(f32({2, 7}), t(DType::u8, {2, 7}), x);
      },
      "topk_rows", "7 entries of 6 columns");
  expect_refused(
      [&] {
        ops_->topk_rows(f32({2, 3}), indices, f32({2, 300}));
      },
      "topk_rows", "300 columns do not fit into u8");
  const std::vector<uint8_t> far = {0, 1, 6, 0, 1, 2};
  ops_->upload(indices, far.data());
  expect_refused([&] { ops_->gather_entries(values, x, indices); }, "column that is not there");
  expect_refused([&] { ops_->scatter_entries(x, values, indices); }, "column that is not there");
  expect_refused([&] { ops_->column_sum_squares(f32({5}), x); }, "column_sum_squares", "(6)");
  expect_refused([&] { ops_->pack_columns(t(DType::u8, {1}), indices); }, "pack_columns", "(1, 3)");
  expect_refused(
      [&] {
        ops_->unpack_columns(t(DType::u16, {1, 9}), t(DType::u16, {1}));
      },
      "unpack_columns", "bits is u16");
  expect_refused(
      [&] {
        ops_->inverse_cholesky(f32({3, 3}), f32({3, 2}));
      },
      "inverse_cholesky", "(3, 3)");
  expect_refused([&] { ops_->cast(t(DType::f16, {3}), i32({3})); }, "cast", "x is i32");
}

TEST_F(Contract, OfElementwiseOps) {
  expect_refused([&] { ops_->add(f32({3}), f32({3}), f32({4})); }, "add", "b is f32 (4)");
  const Tensor x = f32({4});
  expect_refused([&] { ops_->add(x.slice(0, 0, 3), x.slice(0, 1, 3), f32({3})); }, "add",
                 "y overlaps a");
  expect_refused([&] { ops_->axpy(x, 2, x); }, "axpy", "y shares memory with x");
  expect_refused([&] { ops_->scale(i32({3}), 2); }, "scale", "y is i32");
  expect_refused([&] { ops_->cast(f32({3}), i32({3})); }, "cast", "x is i32");
  expect_refused([&] { ops_->fill(t(DType::u8, {3}), 1); }, "fill", "y is u8");
  expect_refused([&] { ops_->sum(f32({2}), x); }, "sum", "out", "(1)");
  expect_refused([&] { ops_->sum_squares(t(DType::bf16, {1}), x); }, "sum_squares", "out is bf16");
  expect_refused([&] { ops_->random_normal(i32({3}), Philox{1}, 0, 1); }, "random_normal",
                 "y is i32");
  expect_refused([&] { ops_->scale(f32({0}), 2); }, "scale", "empty dimensions");
}

TEST_F(Contract, OfStatistics) {
  const Tensor a = t(DType::f64, {3}), one = t(DType::f64, {1});
  expect_refused([&] { ops_->add_statistics(a, f32({3}), a); }, "add_statistics", "a is f32 (3)");
  expect_refused([&] { ops_->add_statistics(a, a, one); }, "add_statistics", "b is f64 (1)");
  expect_refused([&] { ops_->clip_factor(t(DType::bf16, {1}), one, 1); }, "clip_factor",
                 "factor is bf16");
  expect_refused([&] { ops_->clip_factor(f32({1}), f32({1}), 1); }, "clip_factor",
                 "sum_squares is f32");
  expect_refused([&] { ops_->clip_factor(f32({1}), one, 0); }, "clip_factor", "max_norm is 0");
}

TEST_F(Contract, OfAdamW) {
  AdamWParameters p;
  const Tensor master = f32({4}), m = f32({4}), v = f32({4}), grad = f32({4}), one = f32({1});
  expect_refused([&] { ops_->adamw(master, f32({5}), m, v, grad, one, p); }, "adamw", "compute");
  expect_refused([&] { ops_->adamw(master, master, m, m, grad, one, p); }, "adamw",
                 "m shares memory with v");
  const Tensor w = f32({2, 3}), mw = f32({2, 3}), gw = f32({2, 3});
  expect_refused([&] { ops_->adamw_rows(master, master, m, v, grad, one, p); }, "adamw_rows",
                 "must have 2 dimensions");
  expect_refused([&] { ops_->adamw_rows(w, w, mw, f32({3}), gw, one, p); }, "adamw_rows",
                 "v is f32 (3)");
  p.step = 0;
  expect_refused([&] { ops_->adamw(master, master, m, v, grad, one, p); }, "adamw", "step is 0");
}

TEST_F(Contract, OfMatrixSteps) {
  const Tensor x = f32({2, 3}), m = f32({2, 3}), one = f32({1}), squares = t(DType::f64, {1});
  expect_refused(
      [&] {
        ops_->combine(x, 1, t(DType::bf16, {2, 3}), 1, m);
      },
      "combine", "x is bf16 (2, 3)");
  expect_refused([&] { ops_->combine(x, 1, x, 1, f32({6})); }, "combine", "z is f32 (6)");
  expect_refused([&] { ops_->normalise(x, x, one, 1, 0); }, "normalise", "sum_squares is f32");
  expect_refused([&] { ops_->normalise(x, x, squares, 0, 0); }, "normalise", "factor is 0");
  expect_refused([&] { ops_->momentum(x, x, m, one, 0.9, true); }, "momentum",
                 "update shares memory with m");
  expect_refused([&] { ops_->momentum(x, m, x, one, 1, true); }, "momentum", "beta is 1");
}

TEST(MetaBackend, ChecksAsTheOthersDoButNeedsNoMemory) {
  const auto meta = make_meta_backend();
  const Tensor y(nullptr, DType::bf16, {3, 4}), a(nullptr, DType::bf16, {3, 5}),
      b(nullptr, DType::bf16, {5, 4});
  EXPECT_NO_THROW(meta->matmul(y, a, false, b, false, false));
  EXPECT_THROW(meta->matmul(y, a, false, a, false, false), std::logic_error);
  EXPECT_EQ(meta->allocate(size_t{1} << 50)->data(), nullptr);
}

TEST(MetaBackend, BooksTheFormulas) {
  const auto meta = make_meta_backend();
  std::vector<OpCost> costs;
  meta->set_cost_sink(&costs);
  const auto bf16 = [](Shape s) { return Tensor(nullptr, DType::bf16, s); };
  const auto f32 = [](Shape s) { return Tensor(nullptr, DType::f32, s); };
  meta->matmul(f32({10, 20}), bf16({10, 30}), false, bf16({30, 20}), false, true);
  EXPECT_EQ(costs.back().flops, 2u * 10 * 20 * 30);
  EXPECT_EQ(costs.back().bytes, 2u * (10 * 30 + 30 * 20) + 2u * 4 * 10 * 20);
  EXPECT_TRUE(costs.back().matrix && costs.back().bf16);

  // 4 B H Dh FLOPs an allowed pair; the backward's five products are 10. Halved when causal over
  // one sequence.
  AttentionMask mask;
  mask.q_position = mask.k_position = Tensor(nullptr, DType::i32, {64});
  const Tensor q = bf16({2, 64, 4, 16}), k = bf16({2, 64, 2, 16}), rows = f32({2, 4, 64});
  meta->attention_forward(bf16({2, 64, 4, 16}), rows, q, k, k, mask, 1);
  EXPECT_EQ(costs.back().flops, 4u * 2 * 4 * 16 * 64 * 64 / 2);
  EXPECT_EQ(costs.back().bytes,
            2u * (2 * 64 * 16) * (4 + 4 + 2 + 2) + 4u * 2 * 4 * 64 + 2u * 4 * 64);
  mask.causal = false;
  meta->attention_backward(q, k, k, q, q, k, k, rows, rows, mask, 1, false);
  EXPECT_EQ(costs.back().flops, 10u * 2 * 4 * 16 * 64 * 64);
}

TEST(CudaBackend, SaysWhyItIsNotThere) {
  std::string reason;
  const bool there = make_cuda_backend(&reason) != nullptr;
  EXPECT_NE(there, !reason.empty());
}

}  // namespace
}  // namespace strait::testing
