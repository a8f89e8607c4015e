#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace dsft::zero {

/// A tensor of the saved optimizer state: "<parameter>.exp_avg", "<parameter>.exp_avg_sq", "<parameter>.master" (16-bit
/// parameters only), "applied_updates", "loss_scaler". What a rank owns of a sharded parameter is flat, and the place
/// of its first element in the parameter follows the name: "<parameter>.exp_avg@4096".
struct NamedState {
  std::string name;
  at::Tensor tensor;
};

/// A saved state, the parts of all ranks that wrote it together; they need not be the ranks that read it.
class SavedState {
 public:
  explicit SavedState(const std::vector<NamedState>& state);

  /// Checks that a tensor of this shape and type is there, whole or in parts that make it up. One without elements need
  /// not be.
  void expect(const std::string& name, at::IntArrayRef sizes, at::ScalarType type);
  /// What expect() did not find as it should be, and what nobody expected: a line each.
  std::string faults() const;

  /// Copies the elements from `first` on of an expected tensor into a flat one.
  void copy(const std::string& name, int64_t first, at::Tensor to) const;

 private:
  struct Saved {
    at::Tensor whole;                     // undefined: there are parts
    std::map<int64_t, at::Tensor> parts;  // flat, by their first element
    bool is_expected = false;
  };

  std::map<std::string, Saved> saved_;
  std::string faults_;
};

}  // namespace dsft::zero
