#pragma once

#include <utility>

namespace dsft::text::jinja {

/// Gives a variable a value until the end of a block of C++.
template <typename T>
class Restored {
 public:
  Restored(T& variable, T value) : variable_(variable), outer_(std::exchange(variable, std::move(value))) {}
  ~Restored() { variable_ = std::move(outer_); }
  Restored(const Restored&) = delete;
  Restored& operator=(const Restored&) = delete;

 private:
  T& variable_;
  T outer_;
};

}  // namespace dsft::text::jinja
