// The text of a standstill stays short, whatever is in flight.
#include <gmock/gmock.h>

#include <algorithm>

#include "sim/executor/watchdog.h"

namespace strait::sim {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;

TEST(Standstill, ListsAtMost64MessagesInFlight) {
  std::string in_flight;
  for (int i = 0; i < 100; ++i) in_flight += "message " + std::to_string(i) + "\n";
  const std::string text = describe_standstill("why", Nanoseconds{5}, {}, in_flight);
  EXPECT_THAT(text, HasSubstr("message 63\n"));
  EXPECT_THAT(text, EndsWith("\nand 36 more"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 66);
}

TEST(Standstill, ListsAFewMessagesWhole) {
  EXPECT_THAT(describe_standstill("why", Nanoseconds{5}, {}, "message 0\nmessage 1\n"),
              EndsWith("in flight:\nmessage 0\nmessage 1"));
  EXPECT_THAT(describe_standstill("why", Nanoseconds{5}, {}, ""), EndsWith("in flight: nothing"));
}

}  // namespace
}  // namespace strait::sim
