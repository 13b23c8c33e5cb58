// Schedules: every size up to 8 stages and 17 microbatches, the grids of docs/schedules.md, the
// text form, and what the validator says about broken schedules.
#include "engine/schedule/schedule.h"

#include <algorithm>
#include <functional>
#include <stdexcept>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace strait {
namespace {

using ::testing::HasSubstr;

void for_each_size(const std::function<void(int stages, int microbatches)>& check) {
  for (int stages = 1; stages <= 8; ++stages) {
    for (int microbatches = 1; microbatches <= 17; ++microbatches) {
      SCOPED_TRACE(testing::Message() << stages << " stages, " << microbatches << " microbatches");
      check(stages, microbatches);
    }
  }
}

// Columns of the grid: the length of the step in unit time.
size_t columns_of(const std::string& grid) {
  const std::string row = grid.substr(0, grid.find('\n'));
  size_t words = 0;
  bool inside = false;
  for (const char c : row.substr(row.find('|') + 1)) {
    if (c != ' ' && !inside) ++words;
    inside = c != ' ';
  }
  return words;
}

std::string error_of(const Schedule& schedule) {
  try {
    validate(schedule);
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "no error";
}

TEST(Schedule, IsValidForEverySize) {
  for_each_size([](int p, int m) {
    for (const std::string& name : schedule_names()) {
      const Schedule schedule = make_schedule(name, p, m);
      EXPECT_EQ(schedule.name, name);
      EXPECT_NO_THROW(validate(schedule));
    }
  });
}

// Both take (M + P - 1) forward and as many backward slots: the bubble is (P - 1) / (M + P - 1).
TEST(Schedule, TakesTwiceMicrobatchesPlusStagesMinusOne) {
  for_each_size([](int p, int m) {
    const auto slots = static_cast<size_t>(2 * (m + p - 1));
    EXPECT_EQ(columns_of(to_grid(make_gpipe(p, m))), slots);
    EXPECT_EQ(columns_of(to_grid(make_1f1b(p, m))), slots);
  });
}

TEST(Schedule, GpipeHoldsAllMicrobatchesAnd1f1bAtMostTheStagesBehind) {
  for_each_size([](int p, int m) {
    for (int s = 0; s < p; ++s) {
      EXPECT_EQ(frames_needed(make_gpipe(p, m), s), m);
      EXPECT_EQ(frames_needed(make_1f1b(p, m), s), std::min(p - s, m));
    }
  });
}

TEST(Schedule, RunsBackwardsInMicrobatchOrderOnEveryRank) {
  for_each_size([](int p, int m) {
    for (const std::string& name : schedule_names()) {
      for (const auto& actions : make_schedule(name, p, m).ranks) {
        int next = 0;
        for (const ScheduleAction& action : actions) {
          if (action.computation == Computation::backward) {
            EXPECT_EQ(action.microbatch, next++);
          }
        }
        EXPECT_EQ(next, m);
      }
    }
  });
}

TEST(Schedule, SurvivesTheTextForm) {
  for_each_size([](int p, int m) {
    for (const std::string& name : schedule_names()) {
      Schedule schedule = make_schedule(name, p, m);
      const Schedule read = from_text(to_text(schedule));
      schedule.name = "custom";  // the text does not carry the name
      EXPECT_EQ(read, schedule);
    }
  });
}

TEST(Schedule, PrintsGpipe) {
  EXPECT_EQ(to_grid(make_gpipe(3, 4)),
            "rank 0 | 0F0 0F1 0F2 0F3 .   .   .   .   0B0 0B1 0B2 0B3\n"
            "rank 1 | .   1F0 1F1 1F2 1F3 .   .   1B0 1B1 1B2 1B3 .\n"
            "rank 2 | .   .   2F0 2F1 2F2 2F3 2B0 2B1 2B2 2B3 .   .\n");
}

TEST(Schedule, Prints1f1b) {
  EXPECT_EQ(to_grid(make_1f1b(3, 4)),
            "rank 0 | 0F0 0F1 0F2 .   .   0B0 0F3 0B1 .   0B2 .   0B3\n"
            "rank 1 | .   1F0 1F1 .   1B0 1F2 1B1 1F3 1B2 .   1B3 .\n"
            "rank 2 | .   .   2F0 2B0 2F1 2B1 2F2 2B2 2F3 2B3 .   .\n");
}

TEST(Schedule, AlignsGridsWithWideNames) {
  const std::string grid = to_grid(make_1f1b(2, 11));
  EXPECT_THAT(grid, HasSubstr("rank 0 | 0F0  0F1  .    0B0  0F2"));
  EXPECT_THAT(grid, HasSubstr("0F10 0B9"));
}

TEST(Schedule, WritesOneLineARank) {
  EXPECT_EQ(to_text(make_1f1b(2, 2)), "0F0,0F1,0B0,0B1\n1F0,1B0,1F1,1B1\n");
}

TEST(Schedule, ReadsIdleCellsBlanksAndCarriageReturns) {
  const Schedule read = from_text("0F0, 0F1,,,0B0,0B1,\r\n,1F0,1F1, 1B0 ,1B1\r\n\r\n");
  EXPECT_EQ(to_text(read), "0F0,0F1,0B0,0B1\n1F0,1F1,1B0,1B1\n");
  EXPECT_EQ(read.stages, 2);
  EXPECT_EQ(read.microbatches, 2);
}

TEST(Schedule, NamesLineAndTokenOfUnreadableText) {
  const auto error = [](const char* text) -> std::string {
    try {
      from_text(text);
    } catch (const std::invalid_argument& e) {
      return e.what();
    }
    return "no error";
  };
  EXPECT_THAT(error("0F0,0B0\n1F0,1W0\n"), HasSubstr("line 2, cell 2: '1W0' is not an action"));
  EXPECT_THAT(error("0F0,0B"), HasSubstr("line 1, cell 2: '0B'"));
  EXPECT_THAT(error("0F0x"), HasSubstr("'0F0x'"));
  EXPECT_THAT(error("-1F0"), HasSubstr("'-1F0'"));
  EXPECT_THAT(error("0F99999999999"), HasSubstr("'0F99999999999'"));
  EXPECT_THAT(error("0F2147483647"), HasSubstr("'0F2147483647'"));
  EXPECT_THAT(error("0F0,0B0\n\n2F0,2B0"), HasSubstr("line 2: empty"));
  EXPECT_THAT(error(""), HasSubstr("no lines"));
  EXPECT_THAT(error(" \n\n"), HasSubstr("no lines"));
}

TEST(Schedule, ListsTheNamesWhenOneIsUnknown) {
  try {
    make_schedule("2f2b", 2, 2);
    FAIL() << "no error";
  } catch (const std::invalid_argument& error) {
    EXPECT_STREQ(error.what(), "unknown schedule '2f2b'; allowed: gpipe, 1f1b");
  }
}

TEST(Schedule, RefusesNoStagesAndNoMicrobatches) {
  EXPECT_THROW(make_gpipe(0, 1), std::invalid_argument);
  EXPECT_THROW(make_1f1b(1, 0), std::invalid_argument);
}

TEST(ScheduleValidator, MarksADeadlockAndSaysWhoWaitsForWhat) {
  // Rank 0 wants microbatch 0 back before it sends 1; rank 1 wants both before it sends any back.
  const std::string error = error_of(from_text("0F0,0B0,0F1,0B1\n1F0,1F1,1B0,1B1\n"));
  EXPECT_EQ(error,
            "schedule 'custom', rank 0: deadlock: rank 0 at 0B0 waits for 1B0, rank 1 at 1F1 waits "
            "for 0F1\n"
            "rank 0 | 0F0 [0B0] 0F1 0B1  <-- ERROR HERE\n"
            "rank 1 | 1F0 1F1 1B0 1B1");
}

TEST(ScheduleValidator, MarksWhatIsMissing) {
  EXPECT_THAT(error_of(from_text("0F0,0F1,0B0,0B1\n1F0,1B0,1F1\n")),
              HasSubstr("rank 1: 1B1 is missing\nrank 0 | 0F0 0F1 0B0 0B1\nrank 1 | 1F0 1B0 1F1 [] "
                        " <-- ERROR HERE"));
  EXPECT_THAT(error_of(from_text("0F0,0B0,0F7,0B7\n")), HasSubstr("0F1 is missing"));
  EXPECT_THAT(error_of(from_text("0F5\n")), HasSubstr("0F0 is missing"));
  EXPECT_THAT(error_of(from_text(",\n")), HasSubstr("0F0 is missing\nrank 0 | []  <-- ERROR HERE"));
}

TEST(ScheduleValidator, MarksWhatIsThereTwice) {
  EXPECT_THAT(error_of(from_text("0F0,0B0,0F0,0B0\n")),
              HasSubstr("0F0 is there twice\nrank 0 | 0F0 0B0 [0F0] 0B0  <-- ERROR HERE"));
}

TEST(ScheduleValidator, MarksABackwardBeforeItsForward) {
  EXPECT_THAT(error_of(from_text("0F0,0B1,0F1,0B0\n")),
              HasSubstr("0B1 comes before its forward\nrank 0 | 0F0 [0B1]"));
}

TEST(ScheduleValidator, MarksAForeignStageAndAnUnknownMicrobatch) {
  EXPECT_THAT(error_of(from_text("0F0,0B0\n1F0,0B0\n")),
              HasSubstr("0B0 belongs to stage 0; rank 1 runs stage 1"));
  Schedule schedule = make_gpipe(1, 2);
  schedule.ranks[0][1].microbatch = 2;
  EXPECT_THAT(error_of(schedule), HasSubstr("0F2 is outside of microbatches 0 to 1"));
  schedule.ranks[0][1].microbatch = -1;
  EXPECT_THAT(error_of(schedule), HasSubstr("outside of microbatches"));
}

TEST(ScheduleValidator, RefusesASizeThatIsNotThatOfTheLists) {
  Schedule schedule = make_gpipe(2, 2);
  schedule.stages = 3;
  EXPECT_THAT(error_of(schedule), HasSubstr("3 stages, 2 microbatches, 2 ranks"));
}

// Any single swap of neighbours in a valid list is either still executable or marked; never
// accepted and then stuck.
TEST(ScheduleValidator, AcceptsExactlyWhatHasAGrid) {
  const Schedule good = make_1f1b(4, 5);
  int accepted = 0;
  int refused = 0;
  for (size_t rank = 0; rank < good.ranks.size(); ++rank) {
    for (size_t i = 0; i + 1 < good.ranks[rank].size(); ++i) {
      Schedule swapped = good;
      std::swap(swapped.ranks[rank][i], swapped.ranks[rank][i + 1]);
      const std::string error = error_of(swapped);
      if (error == "no error") {
        ++accepted;
        const std::string grid = to_grid(swapped);
        for (const auto& action : swapped.ranks[rank]) {
          const std::string name = std::to_string(action.stage) +
                                   static_cast<char>(action.computation) +
                                   std::to_string(action.microbatch);
          EXPECT_THAT(grid, HasSubstr(name));
        }
      } else {
        ++refused;
        EXPECT_THAT(error, HasSubstr("<-- ERROR HERE"));
      }
    }
  }
  EXPECT_GT(accepted, 0);
  EXPECT_GT(refused, 0);
}

}  // namespace
}  // namespace strait
