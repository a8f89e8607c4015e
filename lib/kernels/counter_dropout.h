#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace dsft::kernels {

/// What names the random numbers of a batch: the run's seed, and for each token its sample of the epoch and its
/// position inside the document.
struct DropoutKeys {
  uint64_t seed = 0;
  at::Tensor sample_keys;  ///< int64 [T]: sample_key of epoch and sample
  at::Tensor positions;    ///< int64 [T]
};

/// Dropout that depends on what it drops and on nothing else: element (t, f) is kept where the 16-bit number drawn by
/// Philox4x32-10 from key (seed ^ module) and counter (sample, positions[t], epoch, f / 8) reaches round(p * 65536);
/// kept elements are divided by their exact probability. The mask is drawn again in the backward pass, never stored. x
/// [T, K]; `module` is hash_name of the module's path.
at::Tensor counter_dropout(const at::Tensor& x, double p, uint64_t module, const DropoutKeys& keys);

/// The same by LibTorch's operations, on any device: the readable form, and the fallback of devices without a kernel.
at::Tensor counter_dropout_by_operations(const at::Tensor& x, double p, uint64_t module, const DropoutKeys& keys);

/// The factor of each element ([T, size], 0 or 1 / keep probability) by plain tensor operations on any device: the
/// reference of the kernels.
at::Tensor counter_dropout_factors(int64_t size, double p, uint64_t module, const DropoutKeys& keys, at::Device device);

}  // namespace dsft::kernels
