// What holds for every op on every backend: it agrees with the reference, gives the same bits
// again, on any number of threads and with any instruction set, and costs what the meta backend
// says. An op without cases fails the first test.
#include <set>

#include "tests/kernels/attention_cases.h"

namespace strait::testing {
namespace {

std::vector<Op> all_ops() {
  std::vector<Op> ops;
  for (int i = 0; i < static_cast<int>(Op::count_); ++i) ops.push_back(static_cast<Op>(i));
  return ops;
}

TEST(OpList, EveryOpHasANameAndCases) {
  std::set<std::string> names;
  for (Op op : all_ops()) {
    EXPECT_STRNE(name_of(op), "?");
    names.insert(name_of(op));
    EXPECT_FALSE(cases_of(op).empty())
        << "no test covers " << name_of(op) << ": add its cases to tests/kernels/cases.h";
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(Op::count_));
}

struct Subject {
  std::string backend;
  DType dtype;
  Op op;
};
std::string text_of(const Subject& s) {
  return s.backend + "_" + name_of(s.dtype) + "_" + name_of(s.op);
}
void PrintTo(const Subject& s, std::ostream* out) { *out << text_of(s); }

class EveryOp : public ::testing::TestWithParam<Subject> {
 protected:
  void SetUp() override {
    std::string reason;
    ops_ = make_subject(GetParam().backend, &reason);
    if (ops_ == nullptr) GTEST_SKIP() << reason;
  }
  std::unique_ptr<Backend> ops_;
};

TEST_P(EveryOp, AgreesWithTheReference) {
  const auto reference = make_reference_backend();
  for (const Case& c : cases_of(GetParam().op)) {
    SCOPED_TRACE(c.name);
    const auto actual = run_case(c, *ops_, GetParam().dtype, GetParam().dtype);
    expect_close(actual, run_case(c, *reference, GetParam().dtype, DType::f64), GetParam().dtype,
                 GetParam().backend == "cuda");
  }
}

TEST_P(EveryOp, GivesTheSameBitsAgain) {
  for (const Case& c : cases_of(GetParam().op)) {
    SCOPED_TRACE(c.name);
    const auto first = run_case(c, *ops_, GetParam().dtype, GetParam().dtype);
    expect_same_bits(run_case(c, *ops_, GetParam().dtype, GetParam().dtype), first);
  }
}

TEST_P(EveryOp, CostsWhatTheMetaBackendBooks) {
  const auto meta = make_meta_backend();
  for (const Case& c : cases_of(GetParam().op)) {
    SCOPED_TRACE(c.name);
    std::vector<OpCost> real, counted;
    ops_->set_cost_sink(&real);
    meta->set_cost_sink(&counted);
    run_case(c, *ops_, GetParam().dtype, GetParam().dtype);
    Runner runner(*meta, GetParam().dtype, GetParam().dtype);
    c.run(runner);
    ops_->set_cost_sink(nullptr);
    ASSERT_EQ(real.size(), 1u);
    ASSERT_EQ(counted.size(), 1u);
    EXPECT_EQ(real[0].op, GetParam().op);
    EXPECT_EQ(counted[0].op, GetParam().op);
    EXPECT_EQ(real[0].flops, counted[0].flops);
    EXPECT_EQ(real[0].bytes, counted[0].bytes);
    EXPECT_EQ(real[0].matrix, counted[0].matrix);
    EXPECT_EQ(real[0].bf16, counted[0].bf16);
    EXPECT_GT(real[0].bytes, 0u);
  }
}

std::vector<Subject> all_subjects() {
  std::vector<Subject> all;
  for (const std::string& backend : subjects())
    for (DType dtype : {DType::f32, DType::bf16})
      for (Op op : all_ops()) all.push_back({backend, dtype, op});
  return all;
}

INSTANTIATE_TEST_SUITE_P(On, EveryOp, ::testing::ValuesIn(all_subjects()),
                         [](const auto& test) { return text_of(test.param); });

class EveryCpuOp : public ::testing::TestWithParam<Op> {};

TEST_P(EveryCpuOp, GivesTheSameBitsOnOneTwoAndThreeThreads) {
  if (!kCanSeeOpenMp) GTEST_SKIP() << "ThreadSanitizer cannot see OpenMP's synchronisation";
  for (const char* subject : {"cpu", "cpu_avx2"}) {
    std::string reason;
    if (make_subject(subject, &reason) == nullptr) continue;
    const auto one = make_subject(subject, &reason, 1);
    for (int threads : {2, 3}) {
      const auto several = make_subject(subject, &reason, threads);
      for (DType dtype : {DType::f32, DType::bf16})
        for (const Case& c : cases_of(GetParam())) {
          SCOPED_TRACE(c.name);
          expect_same_bits(run_case(c, *several, dtype, dtype), run_case(c, *one, dtype, dtype));
        }
    }
  }
}

TEST_P(EveryCpuOp, GivesTheSameBitsWithEveryInstructionSet) {
  std::string reason;
  const auto portable = make_subject("cpu_portable", &reason);
  for (const char* subject : {"cpu_avx2", "cpu"}) {
    // Under AVX-512 the matrix product is oneDNN's, with its own order of summation
    // (docs/determinism.md).
    if (GetParam() == Op::matmul && std::string(subject) == "cpu") continue;
    const auto other = make_subject(subject, &reason);
    if (other == nullptr) continue;
    for (DType dtype : {DType::f32, DType::bf16})
      for (const Case& c : cases_of(GetParam())) {
        SCOPED_TRACE(c.name);
        expect_same_bits(run_case(c, *other, dtype, dtype), run_case(c, *portable, dtype, dtype));
      }
  }
}

INSTANTIATE_TEST_SUITE_P(Of, EveryCpuOp, ::testing::ValuesIn(all_ops()),
                         [](const auto& test) { return name_of(test.param); });

}  // namespace
}  // namespace strait::testing
