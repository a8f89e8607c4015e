#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

namespace dsft::nn {

class Linear;

/// Adapters of Linears that are computed side by side, in the type of the arithmetic.
struct NarrowAdapters {
  at::Tensor a;               ///< of all of them, [sum of ranks, in]
  std::vector<at::Tensor> b;  ///< of each [out, r]; or one of all of them (kernels::PackedAdapters)
};

/// Narrow adapters that stay over many forward passes without gradients, during which the adapters do not change: the
/// steps of a generation. At addresses that stay, for recorded steps.
class KeptNarrowAdapters {
 public:
  /// The adapters may have changed: each pair is made again, in its place, when it is asked for next.
  void renew() { ++round_; }

  /// The pair of the group that begins with this Linear, by `make` where it is missing or older than renew().
  const NarrowAdapters& get(const Linear* first, const std::function<NarrowAdapters()>& make);

 private:
  struct Entry {
    NarrowAdapters adapters;
    int64_t round;
  };
  std::map<const Linear*, Entry> entries_;
  int64_t round_ = 0;
};

}  // namespace dsft::nn
