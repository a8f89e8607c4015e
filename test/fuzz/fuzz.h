#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"

/// What libFuzzer and the replay driver call with each input; every *_fuzz.cpp defines it.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace dsft::fuzz {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// Runs a reader of untrusted bytes. An Error is how it refuses them; kInternal (a broken invariant) and every other
/// exception pass and are findings.
template <typename Action>
void allow_refusal(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    if (error.kind() == ErrorKind::kInternal) throw;
  }
}

}  // namespace dsft::fuzz
