// The one assertion of the code base: a broken contract is a std::logic_error that says where and what, in every build
// type. For errors a user can cause, throw an exception with a text they can act on instead.
#pragma once

#include <stdexcept>
#include <string>

namespace strait {

[[noreturn]] inline void check_failed(const char* file, int line, const char* condition,
                                      const std::string& message) {
  throw std::logic_error(std::string(file) + ":" + std::to_string(line) + ": " + condition +
                         (message.empty() ? "" : ": ") + message);
}

}  // namespace strait

// STRAIT_CHECK(condition, message): message is anything a std::string is made of; evaluated only on failure.
#define STRAIT_CHECK(condition, ...)                                                    \
  do {                                                                                  \
    if (!(condition))                                                                   \
      ::strait::check_failed(__FILE__, __LINE__, #condition, std::string(__VA_ARGS__)); \
  } while (false)
