// Quantities: exact both ways, and refusals that show the right form.
#include "sim/scenario/quantity.h"

#include <gtest/gtest.h>
#include <regex.h>

namespace strait::scenario {
namespace {

struct Case {
  const char* text;
  uint64_t count;
  const char* canonical;
};

bool matches(const std::string& text, const std::string& pattern) {
  regex_t compiled;
  EXPECT_EQ(::regcomp(&compiled, pattern.c_str(), REG_EXTENDED | REG_NOSUB), 0) << pattern;
  const bool found = ::regexec(&compiled, text.c_str(), 0, nullptr, 0) == 0;
  ::regfree(&compiled);
  return found;
}

void check(Dimension dimension, const std::vector<Case>& cases) {
  const std::string pattern = quantity_pattern(dimension);
  for (const Case& c : cases) {
    const ParsedQuantity parsed = parse_quantity(c.text, dimension);
    ASSERT_TRUE(parsed.count) << c.text << ": " << parsed.problem;
    EXPECT_EQ(*parsed.count, c.count) << c.text;
    EXPECT_EQ(format_quantity(c.count, dimension), c.canonical);
    EXPECT_TRUE(matches(c.text, pattern)) << c.text;
    EXPECT_TRUE(matches(c.canonical, pattern)) << c.canonical;
  }
}

TEST(Quantity, BandwidthsAreDecimalBits) {
  check(Dimension::bandwidth, {{"80Mbps", 80'000'000, "80Mbps"},
                               {"16Gbps", 16'000'000'000, "16Gbps"},
                               {"0.08 Gbps", 80'000'000, "80Mbps"},
                               {"1500kbps", 1'500'000, "1.5Mbps"},
                               {"1.5Tbps", 1'500'000'000'000, "1.5Tbps"},
                               {"1234567bps", 1'234'567, "1234567bps"},
                               {"1.2Mbps", 1'200'000, "1.2Mbps"}});
}

TEST(Quantity, DurationsAreExactNanoseconds) {
  check(Dimension::duration, {{"25ms", 25'000'000, "25ms"},
                              {"0.1ms", 100'000, "100us"},
                              {"250µs", 250'000, "250us"},
                              {"250μs", 250'000, "250us"},  // Greek mu
                              {"1.000000001s", 1'000'000'001, "1000000001ns"},
                              {"0ms", 0, "0ns"},
                              {"9223372036s", 9'223'372'036'000'000'000, "9223372036s"}});
}

TEST(Quantity, SizesAreDecimalOrBinaryAsWritten) {
  check(Dimension::size, {{"64KiB", 65'536, "64KiB"},
                          {"1.5MB", 1'500'000, "1.5MB"},
                          {"1.5MiB", 1'572'864, "1536KiB"},
                          {"1500B", 1'500, "1500B"},
                          {"9kB", 9'000, "9000B"},
                          {"65535B", 65'535, "65535B"},
                          {"6MB", 6'000'000, "6MB"},
                          {"128kB", 128'000, "128kB"},
                          {"2TiB", 2'199'023'255'552, "2TiB"},
                          {"0B", 0, "0B"}});
}

TEST(Quantity, CanonicalTextReadsBackToTheSameNumber) {
  // Numbers around every power of two and ten: where units and decimals change.
  for (const Dimension dimension : {Dimension::bandwidth, Dimension::duration, Dimension::size})
    for (uint64_t base : {uint64_t{2}, uint64_t{10}})
      for (uint64_t power = 1; power < uint64_t{1} << 58; power *= base)
        for (uint64_t factor : {1, 3})
          for (int64_t offset = -1; offset <= 1; ++offset) {
            const uint64_t count = power * factor + static_cast<uint64_t>(offset);
            const std::string text = format_quantity(count, dimension);
            const ParsedQuantity parsed = parse_quantity(text, dimension);
            ASSERT_TRUE(parsed.count) << text << ": " << parsed.problem;
            ASSERT_EQ(*parsed.count, count) << text;
          }
}

TEST(Quantity, RefusesWhatIsNotExactlyAQuantity) {
  for (const char* text : {"",
                           " ",
                           "ms",
                           "80",
                           "-1ms",
                           "+1ms",
                           "1e3ms",
                           ".5ms",
                           "5.ms",
                           "1.2.3ms",
                           "1  ms",
                           " 1ms",
                           "1ms ",
                           "1 m s",
                           "0x10ms",
                           "1msec",
                           "1MS",
                           "0.1ns",
                           "1.0000001us",
                           "99999999999999999999ms",
                           "9223372037s",
                           "nan",
                           "infs",
                           "1,5ms",
                           "\xff\xfems"}) {
    const ParsedQuantity parsed = parse_quantity(text, Dimension::duration);
    EXPECT_FALSE(parsed.count) << text;
    EXPECT_FALSE(parsed.problem.empty()) << text;
  }
}

TEST(Quantity, FractionsMayHaveTrailingZeros) {
  EXPECT_EQ(parse_quantity("1.50000000000ms", Dimension::duration).count, 1'500'000u);
}

}  // namespace
}  // namespace strait::scenario
