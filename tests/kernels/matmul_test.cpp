// What the matrix product promises beyond its values: a row of y depends on that row of op(a) only,
// bit for bit, so that a batch may be split into microbatches and between threads; and no term of a
// sum is lost.
#include <array>
#include <thread>

#include "tests/kernels/harness.h"

namespace strait::testing {
namespace {

struct Shapes {
  int64_t M, N, K;
  DType dtype, y_dtype;
  bool transpose_a, transpose_b;
};

std::string text_of(const Shapes& s) {
  return std::to_string(s.M) + "x" + std::to_string(s.N) + "x" + std::to_string(s.K) + " " +
         name_of(s.dtype) + " to " + name_of(s.y_dtype) + (s.transpose_a ? " TA" : "") +
         (s.transpose_b ? " TB" : "");
}

std::vector<Shapes> shapes() {
  std::vector<Shapes> all;
  // One token; odd; sizes of small models; a narrow projection; a sum over many tokens; a head.
  const std::vector<std::array<int64_t, 3>> sizes = {
      {37, 53, 29},   {64, 256, 128}, {100, 17, 300}, {48, 500, 64},
      {70, 128, 176}, {33, 50, 777},  {34, 32, 3000}, {64, 1, 64},
  };
  for (const auto& [M, N, K] : sizes)
    for (int flags = 0; flags < 16; ++flags) {
      const DType dtype = flags & 1 ? DType::bf16 : DType::f32;
      if (dtype == DType::f32 && (flags & 2)) continue;
      all.push_back({M, N, K, dtype, flags & 2 ? DType::bf16 : DType::f32, (flags & 4) != 0,
                     (flags & 8) != 0});
    }
  return all;
}

// y computed several times, each time with its rows so many at once.
std::vector<std::vector<std::byte>> products(Backend& ops, const Shapes& s,
                                             const std::vector<int64_t>& rows_at_once) {
  Runner r(ops, s.dtype, s.dtype);
  const Tensor a = r.input(s.transpose_a ? Shape{s.K, s.M} : Shape{s.M, s.K}),
               b = r.input(s.transpose_b ? Shape{s.N, s.K} : Shape{s.K, s.N});
  for (int64_t rows : rows_at_once) {
    const Tensor y =
        r.output("y", {s.M, s.N}, s.y_dtype == s.dtype ? Kind::element : Kind::statistic, kExact);
    for (int64_t m = 0; m < s.M; m += rows) {
      const int64_t count = std::min(rows, s.M - m);
      ops.matmul(y.slice(0, m, count), a.slice(s.transpose_a ? 1 : 0, m, count), s.transpose_a, b,
                 s.transpose_b, false);
    }
  }
  std::vector<std::vector<std::byte>> bytes;
  for (const auto& output : r.results()) bytes.push_back(output.bytes);
  return bytes;
}

TEST(CpuMatmul, RowsDoNotDependOnHowTheyAreSplitNorOnTheNumberOfThreads) {
  if (!kCanSeeOpenMp) GTEST_SKIP() << "ThreadSanitizer cannot see OpenMP's synchronisation";
  for (const char* subject : {"cpu", "cpu_avx2"}) {
    std::string reason;
    if (make_subject(subject, &reason) == nullptr) continue;
    const auto one = make_subject(subject, &reason, 1), two = make_subject(subject, &reason, 2),
               five = make_subject(subject, &reason, 5);
    for (const Shapes& s : shapes()) {
      const std::vector<int64_t> rows_at_once = {s.M, s.M < 64 ? 1 : 3, 16, 31, s.M / 2};
      const auto whole = products(*one, s, {s.M})[0];
      for (Backend* ops : {one.get(), two.get()}) {
        const auto split = products(*ops, s, rows_at_once);
        for (size_t i = 0; i < split.size(); ++i)
          EXPECT_TRUE(split[i] == whole)
              << subject << " " << text_of(s) << " by " << rows_at_once[i];
      }
      EXPECT_TRUE(products(*five, s, {s.M})[0] == whole)
          << subject << " " << text_of(s) << " on five threads";
    }
  }
}

// A split of K that drops its tail is a bug that vendors' libraries have had; all-ones operands
// make it visible.
TEST(Matmul, OfAllOnesIsExactlyK) {
  for (const std::string& subject : subjects()) {
    std::string reason;
    const auto ops = make_subject(subject, &reason);
    if (ops == nullptr) continue;
    for (DType dtype : {DType::f32, DType::bf16})
      for (int64_t K : {1, 15, 64, 127, 1000, 4097})
        for (int flags = 0; flags < 4; ++flags) {
          constexpr int64_t M = 19, N = 33;
          Runner r(*ops, dtype, dtype);
          const bool ta = flags & 1, tb = flags & 2;
          const std::vector<double> ones_a(static_cast<size_t>(M * K), 1.0),
              ones_b(static_cast<size_t>(N * K), 1.0);
          const Tensor a = r.input(ta ? Shape{K, M} : Shape{M, K}, Kind::element, ones_a),
                       b = r.input(tb ? Shape{N, K} : Shape{K, N}, Kind::element, ones_b);
          const Tensor y = r.output("y", {M, N}, Kind::statistic, kExact);
          ops->matmul(y, a, ta, b, tb, false);
          const auto results = r.results();
          for (double value : results[0].values)
            ASSERT_EQ(value, static_cast<double>(K)) << subject << " " << name_of(dtype);
        }
  }
}

TEST(CpuMatmul, InstancesRunSideBySide) {
  std::string reason;
  const Shapes s{128, 256, 256, DType::bf16, DType::f32, true, true};
  const auto expected = products(*make_subject("cpu", &reason), s, {s.M});
  std::vector<std::thread> ranks;
  std::vector<int> equal(4, 0);
  for (size_t rank = 0; rank < equal.size(); ++rank)
    ranks.emplace_back([&, rank] {
      std::string why;
      const auto ops = make_subject("cpu", &why);
      bool same = true;
      for (int i = 0; i < 20; ++i) same = same && products(*ops, s, {s.M}) == expected;
      equal[rank] = same;
    });
  for (std::thread& rank : ranks) rank.join();
  for (int same : equal) EXPECT_TRUE(same);
}

}  // namespace
}  // namespace strait::testing
