#pragma once

#include <ATen/Context.h>

namespace dsft::test {

/// While it is there memory of new tensors is NaN until it is written, so that what reads it shows (and torch's own
/// deterministic algorithms are on, without which it does not fill).
class UnwrittenIsNan {
 public:
  UnwrittenIsNan() {
    at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true);
    at::globalContext().setDeterministicFillUninitializedMemory(true);
  }
  ~UnwrittenIsNan() {
    at::globalContext().setDeterministicAlgorithms(were_deterministic_, warned_only_);
    at::globalContext().setDeterministicFillUninitializedMemory(filled_);
  }
  UnwrittenIsNan(const UnwrittenIsNan&) = delete;
  UnwrittenIsNan& operator=(const UnwrittenIsNan&) = delete;

 private:
  bool were_deterministic_ = at::globalContext().deterministicAlgorithms();
  bool warned_only_ = at::globalContext().deterministicAlgorithmsWarnOnly();
  bool filled_ = at::globalContext().deterministicFillUninitializedMemory();
};

}  // namespace dsft::test
