#pragma once

#include <string>

#include "base/error.h"
#include "catch_amalgamated.hpp"

namespace dsft::test {

/// Runs `action` and requires that it throws an Error of this kind whose message and context contain all the parts.
template <typename Action>
std::string require_error(ErrorKind kind, std::initializer_list<std::string> parts, Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    const std::string message = error.full_message();
    INFO(message);
    REQUIRE(error.kind() == kind);
    for (const std::string& part : parts) {
      INFO("expected part: " << part);
      REQUIRE(message.find(part) != std::string::npos);
    }
    return message;
  }
  FAIL("no error was thrown");
  return "";
}

}  // namespace dsft::test
