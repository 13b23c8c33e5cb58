// The stand-in for the device must catch what it is there to catch.
#include "tests/gpu/on_host/grid.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/gpu/on_host/cuda_runtime_api.h"

namespace cuda_on_host {
namespace {

using ::testing::HasSubstr;

std::string run(Extent grid, unsigned threads, const std::function<void()>& body,
                size_t shared_bytes = 0) {
  std::string error;
  const bool ran = run_grid(grid, threads, shared_bytes, body, &error);
  EXPECT_EQ(ran, error.empty());
  return error;
}

float* shared_floats() { return reinterpret_cast<float*>(cuda_on_host_shared_memory); }

TEST(GridOnHost, RunsEveryThreadOfEveryBlockOnce) {
  std::vector<int> count(2 * 3 * 4 * 70);
  EXPECT_EQ(run({2, 3, 4}, 70,
                [&] {
                  const unsigned block =
                      (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
                  ++count[block * blockDim.x + threadIdx.x];
                }),
            "");
  for (const int c : count) EXPECT_EQ(c, 1);
}

TEST(GridOnHost, BarriersAndShufflesSeeWhatOthersWrote) {
  std::vector<float> sums(64);
  EXPECT_EQ(run(
                {1}, 64,
                [&] {
                  shared_floats()[threadIdx.x] = static_cast<float>(threadIdx.x);
                  __syncthreads();
                  float x = shared_floats()[63 - threadIdx.x];
                  for (int step = 16; step > 0; step /= 2) x += __shfl_xor_sync(~0u, x, step);
                  sums[threadIdx.x] = x;
                },
                64 * sizeof(float)),
            "");
  for (int t = 0; t < 64; ++t) EXPECT_EQ(sums[static_cast<size_t>(t)], t < 32 ? 1520.0f : 496.0f);
}

TEST(GridOnHost, SharedMemoryThatNobodyWroteIsNaN) {
  bool nan = false;
  run(
      {1}, 1, [&] { nan = std::isnan(shared_floats()[5]); }, 64);
  EXPECT_TRUE(nan);
}

TEST(GridOnHost, AsynchronousCopiesLandWhenTheyAreWaitedFor) {
  alignas(16) static const float source[8] = {1, 2, 3, 4, 5, 6, 7, 8};
  float before = 0, first = 0, second = 0;
  run(
      {1}, 1,
      [&] {
        copy_later(shared_floats(), source, 16);
        commit_copies();
        copy_later(shared_floats() + 4, source + 4, 16);
        commit_copies();
        before = shared_floats()[0];
        wait_for_copies(1);
        first = shared_floats()[0];
        second = shared_floats()[4];
      },
      32);
  EXPECT_TRUE(std::isnan(before));
  EXPECT_EQ(first, 1.0f);
  EXPECT_TRUE(std::isnan(second));
}

TEST(GridOnHost, ACollectiveThatALaneNeverReachesIsReported) {
  EXPECT_THAT(run({2}, 64,
                  [] {
                    if (threadIdx.x != 40) __syncwarp();
                  }),
              HasSubstr("block (0, 0, 0), thread 32 waits in a collective"));
}

TEST(GridOnHost, ATrapEndsTheGridAndTheNextOneRuns) {
  int after = 0;
  EXPECT_THAT(run({4}, 32,
                  [&] {
                    if (blockIdx.x == 1 && threadIdx.x == 3) __trap();
                    if (blockIdx.x == 2) ++after;
                    __syncthreads();
                  }),
              HasSubstr("trapped in block (1, 0, 0)"));
  EXPECT_EQ(after, 0);
  EXPECT_EQ(run({1}, 32, [&] { ++after; }), "");
  EXPECT_EQ(after, 32);
}

TEST(GridOnHost, WhatTheHardwareCannotLaunchIsRefused) {
  const auto nothing = [] {};
  EXPECT_THAT(run({1, 65536}, 32, nothing), HasSubstr("beyond the hardware"));
  EXPECT_THAT(run({1}, 1025, nothing), HasSubstr("1025 threads"));
  EXPECT_THAT(run({1}, 32, nothing, kMostSharedBytes + 1), HasSubstr("232449 bytes"));
}

}  // namespace
}  // namespace cuda_on_host
