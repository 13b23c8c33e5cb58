// Reading and writing quantities with units; exact integer arithmetic throughout (see quantity.h).
#include "sim/scenario/quantity.h"

#include <fmt/format.h>

#include <bit>
#include <limits>

#include "sim/scenario/problem.h"

namespace strait::scenario {
namespace {

__extension__ using Wide = unsigned __int128;

constexpr int max_digits = 18;  // of a quantity's text: 10^18 times a TiB still fits 128 bits

bool is_digit(char c) { return c >= '0' && c <= '9'; }

struct Decimal {
  uint64_t mantissa = 0;
  int decimals = 0;
  int digits = 0;
  std::string_view unit;  // what follows the number and at most one space
};

// Splits "1.5 ms" into 15, 1 decimal, "ms". No value for a text that does not begin with a number.
std::optional<Decimal> split(std::string_view text) {
  Decimal result;
  size_t i = 0;
  bool point = false;
  for (; i < text.size(); ++i) {
    if (text[i] == '.' && !point && i > 0) {
      point = true;
      continue;
    }
    if (!is_digit(text[i])) break;
    if (++result.digits > max_digits) break;
    result.mantissa = result.mantissa * 10 + static_cast<uint64_t>(text[i] - '0');
    if (point) ++result.decimals;
  }
  if (result.digits == 0 || (point && result.decimals == 0)) return std::nullopt;
  if (i < text.size() && text[i] == ' ') ++i;
  result.unit = text.substr(i);
  return result;
}

std::string_view base_name(Dimension dimension) { return units(dimension).front().name; }

const char* noun(Dimension dimension) {
  switch (dimension) {
    case Dimension::bandwidth:
      return "bandwidth";
    case Dimension::duration:
      return "duration";
    case Dimension::size:
      break;
  }
  return "size";
}

// Micro sign or Greek mu.
bool is_micro(std::string_view unit) { return unit == "\u00b5s" || unit == "\u03bcs"; }

std::string_view examples(Dimension dimension) {
  switch (dimension) {
    case Dimension::bandwidth:
      return R"("80Mbps" or "16Gbps")";
    case Dimension::duration:
      return R"("25ms" or "100us")";
    case Dimension::size:
      return R"("64KiB" or "1.5MB")";
  }
  return "";
}

// Why `unit` is none of the dimension's units, and what it was likely meant to be.
ParsedQuantity unknown_unit(std::string_view text, std::string_view unit, Dimension dimension) {
  if (unit.empty()) return {std::nullopt, "a unit is missing", ""};
  if (dimension == Dimension::size && (unit == "KB" || unit == "K" || unit == "k"))
    return {std::nullopt, in_quotes(unit) + " is ambiguous: kB is 1000 bytes, KiB 1024", ""};
  if (dimension == Dimension::bandwidth && unit.ends_with("B/s"))
    return {std::nullopt, "bandwidths are in bits per second, 8 times as many", ""};
  for (const Dimension other : {Dimension::bandwidth, Dimension::duration, Dimension::size})
    for (const Unit& known : units(other))
      if (known.name == unit || (other == Dimension::duration && is_micro(unit)))
        return {std::nullopt, fmt::format("{} is a unit of {}", in_quotes(unit), noun(other)), ""};
  std::string name(unit);
  for (const char* foreign : {"bits/s", "bit/s", "b/s"})
    if (dimension == Dimension::bandwidth && name.ends_with(foreign))
      name.replace(name.rfind(foreign), std::string::npos, "bps");
  std::vector<std::string> candidates;
  for (const Unit& known : units(dimension)) candidates.emplace_back(known.name);
  const std::string nearest = nearest_name(name, candidates);
  std::string number(text.substr(0, text.size() - unit.size()));
  return {std::nullopt,
          fmt::format("unknown unit {}; units: {}", in_quotes(unit), fmt::join(candidates, ", ")),
          nearest.empty() ? "" : number + nearest};
}

}  // namespace

const std::vector<Unit>& units(Dimension dimension) {
  static const std::vector<Unit> bandwidth = {{"bps", 1},
                                              {"kbps", 1'000},
                                              {"Mbps", 1'000'000},
                                              {"Gbps", 1'000'000'000},
                                              {"Tbps", 1'000'000'000'000}};
  static const std::vector<Unit> duration = {
      {"ns", 1}, {"us", 1'000}, {"ms", 1'000'000}, {"s", 1'000'000'000}};
  static const std::vector<Unit> size = {{"B", 1},
                                         {"kB", 1'000},
                                         {"KiB", 1'024},
                                         {"MB", 1'000'000},
                                         {"MiB", 1'048'576},
                                         {"GB", 1'000'000'000},
                                         {"GiB", 1'073'741'824},
                                         {"TB", 1'000'000'000'000},
                                         {"TiB", 1'099'511'627'776}};
  switch (dimension) {
    case Dimension::bandwidth:
      return bandwidth;
    case Dimension::duration:
      return duration;
    case Dimension::size:
      break;
  }
  return size;
}

ParsedQuantity parse_quantity(std::string_view text, Dimension dimension) {
  const auto number = split(text);
  if (!number) return {std::nullopt, "not a number with a unit", ""};
  if (number->digits > max_digits)
    return {std::nullopt, fmt::format("more than {} digits", max_digits), ""};
  const std::string_view name = is_micro(number->unit) ? "us" : number->unit;
  for (const Unit& unit : units(dimension)) {
    if (unit.name != name) continue;
    Wide count = static_cast<Wide>(number->mantissa) * unit.scale;
    for (int i = 0; i < number->decimals; ++i) {
      if (count % 10 != 0)
        return {std::nullopt,
                fmt::format("finer than 1 {}, the smallest step", base_name(dimension)), ""};
      count /= 10;
    }
    if (count > static_cast<Wide>(std::numeric_limits<int64_t>::max()))
      return {std::nullopt, "too large", ""};
    return {static_cast<uint64_t>(count), "", ""};
  }
  return unknown_unit(text, number->unit, dimension);
}

std::string format_quantity(uint64_t count, Dimension dimension) {
  std::string best = fmt::format("{}{}", count, base_name(dimension));
  for (const Unit& unit : units(dimension)) {
    const bool binary = unit.scale > 1 && std::has_single_bit(unit.scale);
    if (count < unit.scale || (dimension == Dimension::size && count < 10'000 && !binary)) continue;
    const uint64_t whole = count / unit.scale;
    uint64_t rest = count % unit.scale;
    std::string text = fmt::format("{}", whole);
    if (rest != 0) {
      const Wide thousandths = static_cast<Wide>(rest) * 1000;
      if (thousandths % unit.scale != 0 || binary) continue;
      text += fmt::format(".{:03}", static_cast<uint64_t>(thousandths / unit.scale));
      while (text.back() == '0') text.pop_back();
    }
    text += unit.name;
    if (text.size() < best.size()) best = text;
  }
  return best;
}

std::string quantity_pattern(Dimension dimension) {
  std::string names;
  for (const Unit& unit : units(dimension)) {
    if (!names.empty()) names += '|';
    names += unit.name;
    if (unit.name == "us") names += "|µs|μs";
  }
  return fmt::format("^[0-9]+(\\.[0-9]+)? ?({})$", names);
}

std::string quantity_form(Dimension dimension) {
  return fmt::format("a {} with its unit, such as {}", noun(dimension), examples(dimension));
}

}  // namespace strait::scenario
