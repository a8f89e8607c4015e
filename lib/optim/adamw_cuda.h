#pragma once

#include <cstdint>

namespace dsft::optim::cuda {

/// The pointers of AdamWTensors and AdamWUpdate on one GPU.
struct AdamWPointers {
  float* weight;
  const float* gradient;
  float *exp_avg, *exp_avg_sq;
  void* copy;  ///< null where there is none
  bool copy_is_bfloat16;
  const double *learning_rate, *gradient_factor;
  const int64_t* num_applied_updates;
  const bool* is_applied;
  const double* beta1;  ///< null where it is adamw's argument
};

/// One update of `numel` elements in one pass over memory; `stream` is a cudaStream_t.
void adamw(const AdamWPointers& pointers, int64_t numel, double beta1, double beta2, double epsilon,
           double weight_decay, void* stream);

}  // namespace dsft::optim::cuda
