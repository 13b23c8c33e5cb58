// The random processes of a link: their moments, their correlation, and that they are functions of
// the seed alone.
#include "sim/network/link_process.h"

#include <gtest/gtest.h>

#include <cmath>

namespace strait::sim {
namespace {

TEST(LinkProcess, RatesHaveTheirMeanAndDeviationAndStayInRange) {
  LinkConfig link;
  link.bandwidth = {100'000'000};
  link.bandwidth_jitter = 0.2;
  const RateProcess process(link, 3, "0->1");
  double sum = 0, squares = 0;
  constexpr int n = 20'000;
  for (int i = 0; i < n; ++i) {
    const double share = static_cast<double>(process.rate(i).count) / 1e8;
    ASSERT_GE(share, 0.1);
    ASSERT_LE(share, 2.0);
    sum += share;
    squares += share * share;
  }
  // Standard errors are 0.0014 and 0.001; the tolerances are four of them.
  EXPECT_NEAR(sum / n, 1.0, 0.006);
  EXPECT_NEAR(std::sqrt(squares / n - sum * sum / n / n), 0.2, 0.004);
}

TEST(LinkProcess, WithoutBandwidthJitterEveryMessageHasTheLinksRate) {
  const LinkConfig link;
  EXPECT_EQ(RateProcess(link, 3, "0->1").rate(17), link.bandwidth);
}

TEST(LinkProcess, DelayIsAnOrnsteinUhlenbeckProcessOfFiftyMilliseconds) {
  LinkConfig link;
  link.latency = {25'000'000};
  link.jitter = {5'000'000};
  DelayProcess process(link, 1, "0->1");
  constexpr int n = 200'000;  // 2 ms apart: 400 s, about 4000 independent values
  constexpr int lag = 25;     // one tau
  std::vector<double> x(n);
  double sum = 0, squares = 0, products = 0;
  for (int i = 0; i < n; ++i) {
    x[i] = static_cast<double>(process.delay({int64_t{i} * 2'000'000}).count - 25'000'000) / 5e6;
    sum += x[i];
    squares += x[i] * x[i];
    if (i >= lag) products += x[i] * x[i - lag];
  }
  // About 4000 independent values: standard errors near 0.016; the tolerances are three of them.
  EXPECT_NEAR(sum / n, 0.0, 0.05);
  EXPECT_NEAR(std::sqrt(squares / n), 1.0, 0.05);
  EXPECT_NEAR(products / squares, std::exp(-1.0), 0.05);
}

TEST(LinkProcess, DelayDoesNotDependOnWhichTimesWereAskedBefore) {
  LinkConfig link;
  link.jitter = {4'000'000};
  DelayProcess forward(link, 9, "2->1"), backward(link, 9, "2->1"), sparse(link, 9, "2->1");
  std::vector<int64_t> seen;
  for (int64_t t = 0; t < 3'000'000'000; t += 7'000'000) seen.push_back(forward.delay({t}).count);
  for (size_t i = seen.size(); i-- > 0;)
    EXPECT_EQ(backward.delay({static_cast<int64_t>(i) * 7'000'000}).count, seen[i]);
  EXPECT_EQ(sparse.delay({2'800'000'000}).count, seen[400]);
}

TEST(LinkProcess, SeedAndLinkNameBothMakeAnotherStream) {
  LinkConfig link;
  link.bandwidth_jitter = 0.2;
  const auto rate = [&link](uint64_t seed, const char* name) {
    return RateProcess(link, seed, name).rate(0);
  };
  EXPECT_EQ(rate(1, "0->1"), rate(1, "0->1"));
  EXPECT_NE(rate(1, "0->1"), rate(2, "0->1"));
  EXPECT_NE(rate(1, "0->1"), rate(1, "1->0"));
}

}  // namespace
}  // namespace strait::sim
