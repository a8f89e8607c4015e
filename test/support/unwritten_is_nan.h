#pragma once

#include <ATen/Context.h>

namespace dsft::test {

/// While it is there memory of new tensors is NaN until it is written, so that what reads it shows.
class UnwrittenIsNan {
 public:
  UnwrittenIsNan() { set(true); }
  ~UnwrittenIsNan() { set(false); }
  UnwrittenIsNan(const UnwrittenIsNan&) = delete;
  UnwrittenIsNan& operator=(const UnwrittenIsNan&) = delete;

 private:
  static void set(bool on) {
    at::globalContext().setDeterministicAlgorithms(on, /*warn_only=*/on);
    at::globalContext().setDeterministicFillUninitializedMemory(on);
  }
};

}  // namespace dsft::test
