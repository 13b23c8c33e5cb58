// SHA-256 (FIPS 180-4) of a text, for names of things that must not collide: the hash of what
// determines a record.
#pragma once

#include <string>
#include <string_view>

namespace strait::scenario {

// 64 lower-case hexadecimal digits.
std::string sha256(std::string_view text);

}  // namespace strait::scenario
