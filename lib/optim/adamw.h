#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

namespace dsft::optim {

struct AdamWOptions {
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;
};

/// What an update reads and writes: contiguous fp32 tensors of equal length [n], and optionally a bf16 or fp16 tensor
/// [n] that gets the new weights, rounded to the nearest, ties to even.
struct AdamWTensors {
  at::Tensor weight;
  at::Tensor gradient;  ///< only read; on the CPU it may be bf16 or fp16
  at::Tensor exp_avg;
  at::Tensor exp_avg_sq;
  at::Tensor copy = {};
};

/// What changes from update to update, as 0-d tensors on the tensors' device, so that the host need not know them.
struct AdamWUpdate {
  at::Tensor learning_rate;        ///< fp64
  at::Tensor gradient_factor;      ///< fp64: clipping and loss scale; multiplies the gradient
  at::Tensor num_applied_updates;  ///< int64: applied before this one
  at::Tensor is_applied;           ///< bool: where false, nothing changes
  at::Tensor beta1 = {};           ///< fp64: in place of the options', where it changes too; else undefined
};

/// The same where the host knows them, of an update that is applied.
struct AdamWNumbers {
  double learning_rate = 0;
  double gradient_factor = 1;
  int64_t num_applied_updates = 0;
  std::optional<double> beta1 = {};  ///< in place of the options', where it changes too
};

/// One update of AdamW (Loshchilov and Hutter, "Decoupled weight decay regularization") as torch.optim.AdamW does it:
///   weight -= lr * weight_decay * weight
///   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2
///   weight -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + epsilon)
/// An own kernel on the CPU, with all cores, and on CUDA; elsewhere adamw_update_by_operations.
void adamw_update(AdamWTensors& tensors, const AdamWOptions& options, const AdamWUpdate& update);

/// The same for tensors of the CPU. With a copy it moves 28 bytes an element where the gradient has 16 bits and 30
/// where it is fp32, as fast as the memory gives them (bench/offload_adamw.cpp).
void adamw_update(AdamWTensors& tensors, const AdamWOptions& options, const AdamWNumbers& numbers);

/// The same by LibTorch's operations, on any device: the readable form, and the fallback of devices without a kernel.
void adamw_update_by_operations(AdamWTensors& tensors, const AdamWOptions& options, const AdamWUpdate& update);

}  // namespace dsft::optim
