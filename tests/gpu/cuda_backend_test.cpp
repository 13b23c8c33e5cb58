// What the op tests of tests/kernels cannot ask of the CUDA backend: that it says why it is
// missing, that sizes where a product could be split lose nothing and repeat their bits, and that
// the sums do. Without a device only the first test runs, the others are skipped with the backend's
// reason.
#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "kernels/backend.h"

namespace strait {
namespace {

TEST(CudaBackend, IsThereOrSaysWhyNot) {
  std::string reason;
  const auto backend = make_cuda_backend(&reason);
  if (backend == nullptr) {
    EXPECT_TRUE(reason.find("no CUDA") != std::string::npos ||
                reason.find("compute capability") != std::string::npos)
        << reason;
    EXPECT_EQ(make_cuda_backend(nullptr), nullptr) << "a caller may not care why";
  } else {
    EXPECT_STREQ(backend->name(), "cuda");
    EXPECT_FALSE(backend->host_memory());
  }
}

class OnDevice : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string reason;
    ops_ = make_cuda_backend(&reason);
    if (ops_ == nullptr) GTEST_SKIP() << reason;
  }

  Tensor take(Shape shape, DType dtype) {
    memory_.push_back(ops_->allocate(Tensor(nullptr, dtype, shape).bytes()));
    return Tensor(memory_.back()->data(), dtype, shape);
  }
  Tensor random(Shape shape, DType dtype) {
    const Tensor t = take(shape, dtype);
    ops_->random_normal(t, Philox{11}, memory_.size(), 1.0);
    return t;
  }
  std::vector<float> floats(const Tensor& t) {
    std::vector<float> host(static_cast<size_t>(t.elements()));
    ops_->download(host.data(), t);
    return host;
  }

  std::unique_ptr<Backend> ops_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
};

TEST_F(OnDevice, MemoryIsZeroedAndKeepsWhatIsUploaded) {
  const Tensor t = take({1000, 3}, DType::f32);
  EXPECT_EQ(floats(t), std::vector<float>(3000, 0.0f));
  std::vector<float> host(3000);
  for (size_t i = 0; i < host.size(); ++i) host[i] = static_cast<float>(i);
  ops_->upload(t, host.data());
  EXPECT_EQ(floats(t), host);
}

// Sums of ones are exact in fp32 up to 2^24, so a lost or doubled part of K shows in any element. A
// small result with a large K is what a library would split.
TEST_F(OnDevice, ProductOfOnesIsExactlyTheInnerSize) {
  for (DType dtype : {DType::f32, DType::bf16}) {
    for (int64_t inner : {1, 7, 64, 4095, 4097, 50304, 65536}) {
      for (bool transposed : {false, true}) {
        const Tensor a = take({64, inner}, dtype),
                     b = take(transposed ? Shape{32, inner} : Shape{inner, 32}, dtype);
        const Tensor y = take({64, 32}, DType::f32);
        ops_->fill(a, 1.0);
        ops_->fill(b, 1.0);
        ops_->matmul(y, a, false, b, transposed, false);
        EXPECT_EQ(floats(y), std::vector<float>(64 * 32, static_cast<float>(inner)))
            << name_of(dtype) << ", inner size " << inner;
        memory_.clear();
      }
    }
  }
}

// The weight gradient of a large batch: the shape whose sum an atomic or a split would reorder.
TEST_F(OnDevice, LargeProductsAndSumsRepeatTheirBits) {
  const Tensor a = random({16384, 768}, DType::bf16), b = random({16384, 512}, DType::bf16);
  const Tensor y = take({768, 512}, DType::f32), total = take({1}, DType::f32);
  std::vector<float> first_product, first_total;
  for (int repeat = 0; repeat < 5; ++repeat) {
    ops_->matmul(y, a, true, b, false, false);
    ops_->sum_squares(total, a);
    if (repeat == 0) {
      first_product = floats(y);
      first_total = floats(total);
    }
    const std::vector<float> product = floats(y);
    EXPECT_EQ(std::memcmp(product.data(), first_product.data(), product.size() * sizeof(float)), 0);
    EXPECT_EQ(floats(total), first_total);
  }
}

// The kernels are another compiler's code, but of the same source: no digit may differ.
TEST_F(OnDevice, RandomNumbersHaveTheHostsBits) {
  const Tensor y = take({100000}, DType::f32);
  ops_->random_normal(y, Philox{5}, 3, 0.02);
  const std::vector<float> device = floats(y);
  for (size_t i = 0; i < device.size(); ++i)
    ASSERT_EQ(device[i], static_cast<float>(0.02 * normal_at(Philox{5}, 3, i))) << "index " << i;
}

}  // namespace
}  // namespace strait
