#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
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

/// A tensor of a saved state wherever it lies: it is read where, and as far as, it is wanted.
struct StoredState {
  std::string name;  ///< as that of a NamedState
  std::vector<int64_t> sizes;
  at::ScalarType type;
  /// Copies the elements from `first` on into a flat tensor.
  std::function<void(int64_t first, at::Tensor to)> read;

  int64_t numel() const;
};

/// A state that lies in memory.
std::vector<StoredState> stored_in_memory(const std::vector<NamedState>& state);

/// A saved state, the parts of all ranks that wrote it together; they need not be the ranks that read it.
class SavedState {
 public:
  explicit SavedState(std::vector<StoredState> state);

  /// Checks that a tensor of this shape and type is there, whole or in parts that make it up. One without elements need
  /// not be.
  void expect(const std::string& name, at::IntArrayRef sizes, at::ScalarType type);
  /// What expect() did not find as it should be, and what nobody expected: a line each.
  std::string faults() const;

  /// Copies the elements from `first` on of an expected tensor into a flat one; no others are read.
  void copy(const std::string& name, int64_t first, at::Tensor to) const;

 private:
  struct Saved {
    std::optional<StoredState> whole;      // none: there are parts
    std::map<int64_t, StoredState> parts;  // flat, by their first element
    bool is_expected = false;
  };

  std::map<std::string, Saved> saved_;
  std::string faults_;
};

}  // namespace dsft::zero
