#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

namespace dsft::zero {

/// A parameter that is trained.
struct TrainableParameter {
  std::string name;       ///< the checkpoint's name
  at::Tensor parameter;   ///< a leaf that requires gradients
  bool has_weight_decay;  ///< false for biases and weights of norms
  bool is_lora = false;   ///< stays replicated at every stage
};

/// Trainable parameters laid one behind the other in flat fp32 buffers, so that a run of them is updated or reduced by
/// one call. An fp32 parameter is a view of `weight`; a 16-bit parameter is a view of `copy`, its fp32 master lies in
/// `weight`. The .grad of either is a view of `gradient`, in fp32. All 16-bit parameters have the same type.
class FlatParameters {
 public:
  explicit FlatParameters(std::vector<TrainableParameter> parameters);

  int64_t num_parameters() const { return static_cast<int64_t>(parameters_.size()); }
  const TrainableParameter& operator[](int64_t index) const { return parameters_[static_cast<size_t>(index)]; }
  at::Device device() const { return weight.device(); }
  bool has_master(int64_t index) const;

  /// First element of a parameter; of num_parameters(): the end. Parameters start at multiples of 16 elements, and the
  /// elements between them stay zero.
  int64_t offset(int64_t index) const { return offsets_[static_cast<size_t>(index)]; }

  /// The part of a buffer that belongs to a parameter, in its shape.
  at::Tensor view(const at::Tensor& buffer, int64_t index) const;

  /// Runs of consecutive parameters with the same weight decay and type, as [first, last).
  struct Run {
    int64_t first;
    int64_t last;
  };
  const std::vector<Run>& runs() const { return runs_; }
  /// The elements of a run in a flat buffer, with the gaps.
  at::Tensor span(const at::Tensor& buffer, Run run) const {
    return buffer.narrow(0, offset(run.first), offset(run.last) - offset(run.first));
  }

  /// Makes each .grad the view of `gradient` again.
  void attach_gradients();

  // fp32, of equal length, on the parameters' device
  at::Tensor weight;
  at::Tensor gradient;
  at::Tensor exp_avg;
  at::Tensor exp_avg_sq;
  at::Tensor copy;  ///< bf16 or fp16, of the same length; undefined where all parameters are fp32

 private:
  void lay_out();
  void move_in();

  std::vector<TrainableParameter> parameters_;
  std::vector<int64_t> offsets_;
  std::vector<Run> runs_;
};

}  // namespace dsft::zero
