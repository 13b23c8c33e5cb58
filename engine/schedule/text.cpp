// The text form of a schedule, as torch.distributed.pipelining reads and writes it: one line a
// rank, actions separated by commas, "1B2" = stage 1, backward, microbatch 2. An empty cell is a
// slot in which the rank waits and is skipped.
#include "engine/schedule/text.h"

#include <algorithm>
#include <charconv>
#include <stdexcept>

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace strait {
namespace {

std::string_view trim(std::string_view text) {
  constexpr std::string_view blanks = " \t\r";
  const size_t begin = text.find_first_not_of(blanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(blanks) - begin + 1);
}

// Takes the next piece of `rest` up to `separator`; false when nothing is left.
bool next_piece(std::string_view& rest, bool& more, char separator, std::string_view& piece) {
  if (!more) return false;
  const size_t end = rest.find(separator);
  piece = rest.substr(0, end);
  more = end != std::string_view::npos;
  rest = more ? rest.substr(end + 1) : std::string_view{};
  return true;
}

// Takes a number below a million from the front of `text`; false if there is none.
bool take_number(std::string_view& text, int& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || number < 0 || number >= 1000000) return false;
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return true;
}

ScheduleAction parse_action(std::string_view token, size_t line, size_t cell) {
  ScheduleAction action;
  std::string_view rest = token;
  bool good = take_number(rest, action.stage) && !rest.empty() &&
              (rest.front() == 'F' || rest.front() == 'B');
  if (good) {
    action.computation = static_cast<Computation>(rest.front());
    rest.remove_prefix(1);
    good = take_number(rest, action.microbatch) && rest.empty();
  }
  if (!good) {
    throw std::invalid_argument(
        fmt::format("schedule text, line {}, cell {}: '{}' is not an action; write stage, F or B, "
                    "microbatch, as in 0F0 or 1B2",
                    line, cell, token));
  }
  return action;
}

}  // namespace

std::string to_string(const ScheduleAction& action) {
  return fmt::format("{}{}{}", action.stage, static_cast<char>(action.computation),
                     action.microbatch);
}

std::string to_text(const Schedule& schedule) {
  std::string text;
  for (const auto& actions : schedule.ranks) {
    std::vector<std::string> cells;
    for (const ScheduleAction& action : actions) cells.push_back(to_string(action));
    text += fmt::format("{}\n", fmt::join(cells, ","));
  }
  return text;
}

Schedule from_text(std::string_view text) {
  Schedule schedule;
  schedule.name = "custom";
  std::string_view line;
  bool more_lines = true;
  for (size_t line_number = 1; next_piece(text, more_lines, '\n', line); ++line_number) {
    if (trim(line).empty()) {
      if (text.find_first_not_of(" \t\r\n") == std::string_view::npos) break;
      throw std::invalid_argument(fmt::format(
          "schedule text, line {}: empty; each line holds the actions of one rank", line_number));
    }
    auto& actions = schedule.ranks.emplace_back();
    std::string_view cell;
    bool more_cells = true;
    for (size_t cell_number = 1; next_piece(line, more_cells, ',', cell); ++cell_number) {
      if (trim(cell).empty()) continue;
      actions.push_back(parse_action(trim(cell), line_number, cell_number));
      schedule.microbatches = std::max(schedule.microbatches, actions.back().microbatch);
    }
  }
  if (schedule.ranks.empty()) {
    throw std::invalid_argument("schedule text: no lines; each line holds the actions of one rank");
  }
  schedule.stages = static_cast<int>(schedule.ranks.size());
  schedule.microbatches += 1;
  return schedule;
}

}  // namespace strait
