// Quantities as people write them: "80Mbps", "25ms", "64KiB". Exact in both directions: decimal
// text is turned into the integer base unit (bit/s, ns, byte) without floating point, and format()
// writes the shortest text that parse() maps back.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "sim/record/units.h"

namespace strait::scenario {

enum class Dimension { bandwidth, duration, size };

struct Unit {
  std::string_view name;
  uint64_t scale;  // base units in one of it
};

// The units of a dimension, smallest first.
//   bandwidth  bps kbps Mbps Gbps Tbps (decimal bits)
//   duration   ns us ms s ("µs" is read, too)
//   size       B kB MB GB TB (decimal), KiB MiB GiB TiB (binary)
const std::vector<Unit>& units(Dimension dimension);

// A count of base units, or why the text is none.
struct ParsedQuantity {
  std::optional<uint64_t> count;
  std::string problem;
  std::string nearest;  // the text with the unit that was likely meant, "" if none is near
};

// Reads digits, an optional fraction, an optional space, a unit. Refused: no unit, unknown unit,
// signs, exponents, a fraction finer than the base unit, more than 18 digits, values beyond int64.
ParsedQuantity parse_quantity(std::string_view text, Dimension dimension);

// The shortest text with at most three decimals and a value of at least one unit; plain bytes below
// 10 kB unless binary units divide them.
std::string format_quantity(uint64_t count, Dimension dimension);

inline std::string format(BitsPerSecond rate) {
  return format_quantity(rate.count, Dimension::bandwidth);
}
inline std::string format(Bytes size) { return format_quantity(size.count, Dimension::size); }
inline std::string format(Nanoseconds time) {
  return format_quantity(static_cast<uint64_t>(time.count), Dimension::duration);
}

// The texts that parse_quantity accepts, as an ECMA-262 regular expression for JSON Schema.
std::string quantity_pattern(Dimension dimension);

// "a bandwidth with its unit, such as "80Mbps" or "16Gbps""
std::string quantity_form(Dimension dimension);

}  // namespace strait::scenario
