// The small arithmetic under the ops: the exponential of sixteen lanes, bf16 rounding, the normal
// distribution by index, shapes and arenas.
#include <array>
#include <bit>

#include "kernels/arena.h"
#include "kernels/cpu/exponential.h"
#include "kernels/cpu/simd_portable.h"
#include "tests/kernels/harness.h"

namespace strait::testing {
namespace {

float exponential_of(float x) {
  float y[16];
  cpu::exponential(cpu::Portable::set1(x)).store(y);
  return y[0];
}

// The other instruction sets give the same bits (EveryCpuOp), so that one is enough.
TEST(Exponential, IsAccurateOverItsRange) {
  double worst = 0;
  for (int i = 0; i <= 2'000'000; ++i) {
    const float x = -87.0f + 175.0f * static_cast<float>(i) / 2e6f;
    const double exact = std::exp(static_cast<double>(x));
    worst = std::max(worst, std::abs(static_cast<double>(exponential_of(x)) - exact) / exact);
  }
  EXPECT_LE(worst, 1.2e-7);  // as kernels/cpu/exponential.h says: about one unit in the last place
}

TEST(Exponential, EndsCleanly) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(exponential_of(0.0f), 1.0f);
  EXPECT_EQ(exponential_of(-87.5f), 0.0f);
  EXPECT_EQ(exponential_of(-1e30f), 0.0f);
  EXPECT_EQ(exponential_of(-kInfinity), 0.0f);
  EXPECT_EQ(exponential_of(89.0f), kInfinity);
  EXPECT_EQ(exponential_of(kInfinity), kInfinity);
  EXPECT_TRUE(std::isnan(exponential_of(std::numeric_limits<float>::quiet_NaN())));
}

// Every finite value of a type of storage is what its own bits round to, and between two neighbours the nearer one is chosen, of a tie
// the even one.
template <class T, class Bits>
void expect_nearest_even(Bits largest) {
  const auto value = [](unsigned bits) {
    T x;
    x.bits = static_cast<Bits>(bits);
    return static_cast<float>(x);
  };
  for (unsigned bits = 0; bits < largest; ++bits) {
    const float low = value(bits), high = value(bits + 1), middle = low + (high - low) / 2;
    ASSERT_EQ(T(low).bits, bits);
    ASSERT_EQ(T(-low).bits, bits | 1u << (8 * sizeof(Bits) - 1));
    ASSERT_EQ(T(middle).bits, bits % 2 == 0 ? bits : bits + 1);
    ASSERT_EQ(T(std::nextafter(middle, low)).bits, bits);
    ASSERT_EQ(T(std::nextafter(middle, high)).bits, bits + 1);
  }
}

TEST(Float16, RoundsToNearestEvenAndOverflows) {
  expect_nearest_even<float16, uint16_t>(0x7bff);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(static_cast<float>(float16(65504.0f)), 65504.0f);
  EXPECT_EQ(static_cast<float>(float16(65519.0f)), 65504.0f);
  EXPECT_EQ(static_cast<float>(float16(-65520.0f)), -kInfinity);
  EXPECT_EQ(static_cast<float>(float16(kInfinity)), kInfinity);
  EXPECT_TRUE(std::isnan(static_cast<float>(float16(std::nanf("")))));
}

TEST(Float8, RoundsToNearestEvenAndSaturates) {
  expect_nearest_even<float8_e4m3, uint8_t>(0x7e);
  for (const float x : {448.0f, 460.0f, 1e30f, std::numeric_limits<float>::infinity()})
    EXPECT_EQ(static_cast<float>(float8_e4m3(x)), 448.0f);
  EXPECT_TRUE(std::isnan(static_cast<float>(float8_e4m3(std::nanf("")))));
}

// All 2^16 upper halves with low halves around the ties, through the lanes of every instruction
// set.
TEST(Bfloat16, RoundsToNearestEvenInEveryInstructionSet) {
  std::vector<float> values;
  for (uint32_t high = 0; high < 65536; ++high)
    for (uint32_t low : {0u, 1u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu})
      values.push_back(std::bit_cast<float>(high << 16 | low));
  std::vector<bfloat16> rounded_values(values.size());
  const auto n = static_cast<int64_t>(values.size());
  for (cpu::InstructionSet set : cpu::available_instruction_sets()) {
    const auto ops = cpu::make_backend(1, set);
    ops->cast(Tensor(rounded_values.data(), DType::bf16, {n}),
              Tensor(values.data(), DType::f32, {n}));
    for (size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(rounded_values[i].bits, bfloat16(values[i]).bits)
          << values[i] << " " << name_of(set);
  }
}

TEST(Bfloat16, KeepsWhatItCanRepresentAndRoundsTiesToEven) {
  EXPECT_EQ(static_cast<float>(bfloat16(1.0f)), 1.0f);
  EXPECT_EQ(static_cast<float>(bfloat16(1.0f + 0x1p-8f)), 1.0f);  // a tie: down to even
  EXPECT_EQ(static_cast<float>(bfloat16(1.0f + 3 * 0x1p-8f)), 1.0f + 0x1p-6f);  // a tie: up to even
  EXPECT_TRUE(std::isnan(static_cast<float>(bfloat16(std::bit_cast<float>(0x7f800001u)))));
}

// Known answers of Philox 4x32-10 (Salmon et al. 2011, the vectors of their Random123 library).
TEST(Philox, GivesThePublishedWords) {
  const std::array<uint32_t, 4> zeros = {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u};
  EXPECT_EQ(Philox{0}(0, 0), zeros);
  const std::array<uint32_t, 4> ones = {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu};
  EXPECT_EQ(Philox{~0ull}(~0ull, ~0ull), ones);
}

TEST(NormalAt, HasTheMomentsAndTailsOfANormal) {
  constexpr int n = 400'000;
  double sum = 0, squares = 0, cubes = 0;
  int beyond_two = 0, beyond_three = 0;
  for (uint64_t i = 0; i < n; ++i) {
    const double x = normal_at(Philox{1}, 2, i);
    sum += x, squares += x * x, cubes += x * x * x;
    beyond_two += std::abs(x) > 2, beyond_three += std::abs(x) > 3;
  }
  // Five standard errors each.
  EXPECT_NEAR(sum / n, 0.0, 5 / std::sqrt(n));
  EXPECT_NEAR(squares / n, 1.0, 5 * std::sqrt(2.0 / n));
  EXPECT_NEAR(cubes / n, 0.0, 5 * std::sqrt(15.0 / n));
  EXPECT_NEAR(beyond_two, 0.045500 * n, 5 * std::sqrt(0.0455 * n));
  EXPECT_NEAR(beyond_three, 0.0026998 * n, 5 * std::sqrt(0.0027 * n));
}

TEST(NormalAt, DiffersByIndexStreamAndKey) {
  const double x = normal_at(Philox{1}, 2, 3);
  EXPECT_NE(x, normal_at(Philox{1}, 2, 4));
  EXPECT_NE(x, normal_at(Philox{1}, 3, 3));
  EXPECT_NE(x, normal_at(Philox{2}, 2, 3));
}

TEST(Tensor, SlicesAndSplitsWithoutMoving) {
  std::vector<float> memory(2 * 12);
  const Tensor t(memory.data(), DType::f32, {2, 12});
  const Tensor part = t.slice(1, 4, 6);
  EXPECT_EQ(part.data, memory.data() + 4);
  EXPECT_FALSE(part.contiguous());
  const Tensor heads = part.split_last(3, 2);
  EXPECT_EQ(to_string(heads.shape), "(2, 3, 2)");
  EXPECT_EQ(heads.stride(0), 12);
  EXPECT_EQ(heads.stride(1), 2);
  EXPECT_THROW(part.view({12}), std::logic_error);
  EXPECT_THROW(t.slice(1, 8, 5), std::logic_error);
  EXPECT_THROW(t.split_last(5, 2), std::logic_error);
}

TEST(Arena, CountsExactlyWhatItServes) {
  const auto fill = [](Arena& arena) {
    const Tensor kept = arena.take({3, 5}, DType::bf16);
    const ArenaScope scope(arena);
    arena.take({100}, DType::f32);
    return kept;
  };
  Arena counting;
  fill(counting);
  std::vector<std::byte> memory(counting.high_water());
  Arena serving(memory.data(), memory.size(), "test");
  EXPECT_EQ(fill(serving).data, memory.data());
  EXPECT_EQ(serving.high_water(), counting.high_water());
  EXPECT_EQ(serving.mark(), 256u);  // the scope gave its part back
  EXPECT_THROW(serving.take({1000}, DType::f32), std::logic_error);
}

}  // namespace
}  // namespace strait::testing
