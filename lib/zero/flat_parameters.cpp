#include "zero/flat_parameters.h"

#include <torch/types.h>

#include <set>

#include "base/error.h"

namespace dsft::zero {
namespace {

constexpr int64_t kAlignmentElements = 16;

void check_parameters(const std::vector<TrainableParameter>& parameters) {
  DSFT_CHECK(!parameters.empty(), "nothing to train");
  std::set<std::string> names;
  std::set<const void*> tensors;
  for (const TrainableParameter& item : parameters) {
    const at::Tensor& tensor = item.parameter;
    DSFT_CHECK(tensor.defined() && tensor.is_leaf() && tensor.requires_grad(), item.name, " is no trainable leaf");
    DSFT_CHECK(tensor.scalar_type() == at::kFloat || tensor.scalar_type() == at::kBFloat16 ||
                   tensor.scalar_type() == at::kHalf,
               item.name, " has the type ", c10::toString(tensor.scalar_type()));
    DSFT_CHECK(tensor.device() == parameters.front().parameter.device(), item.name, " is on another device");
    DSFT_CHECK(names.insert(item.name).second, item.name, " is listed twice");
    DSFT_CHECK(tensors.insert(tensor.unsafeGetTensorImpl()).second, item.name, " is listed under another name too");
  }
}

}  // namespace

FlatParameters::FlatParameters(std::vector<TrainableParameter> parameters) : parameters_(std::move(parameters)) {
  check_parameters(parameters_);
  lay_out();
  move_in();
  attach_gradients();
}

bool FlatParameters::has_master(int64_t index) const {
  return (*this)[index].parameter.scalar_type() != at::kFloat;
}

at::Tensor FlatParameters::view(const at::Tensor& buffer, int64_t index) const {
  const at::Tensor& parameter = (*this)[index].parameter;
  return buffer.narrow(0, offset(index), parameter.numel()).view(parameter.sizes());
}

void FlatParameters::lay_out() {
  int64_t end = 0;
  for (int64_t index = 0; index < num_parameters(); ++index) {
    offsets_.push_back(end);
    const int64_t numel = (*this)[index].parameter.numel();
    end += (numel + kAlignmentElements - 1) / kAlignmentElements * kAlignmentElements;
    const bool continues_run = !runs_.empty() &&
                               (*this)[runs_.back().first].has_weight_decay == (*this)[index].has_weight_decay &&
                               has_master(runs_.back().first) == has_master(index);
    if (continues_run) {
      runs_.back().last = index + 1;
    } else {
      runs_.push_back({index, index + 1});
    }
  }
  offsets_.push_back(end);
}

void FlatParameters::move_in() {
  at::NoGradGuard no_grad;
  const auto options = at::TensorOptions().dtype(at::kFloat).device((*this)[0].parameter.device());
  weight = at::zeros({offsets_.back()}, options);
  gradient = at::zeros_like(weight);
  exp_avg = at::zeros_like(weight);
  exp_avg_sq = at::zeros_like(weight);
  for (int64_t index = 0; index < num_parameters(); ++index) {
    at::Tensor parameter = (*this)[index].parameter;
    view(weight, index).copy_(parameter);
    if (has_master(index)) {
      if (!copy.defined()) copy = at::zeros_like(weight, parameter.scalar_type());
      DSFT_CHECK(copy.scalar_type() == parameter.scalar_type(), (*this)[index].name, " mixes 16-bit types");
      view(copy, index).copy_(parameter);
    }
    // one by one, so that only one parameter is there twice at a time
    parameter.set_data(view(has_master(index) ? copy : weight, index));
  }
}

void FlatParameters::attach_gradients() {
  for (int64_t index = 0; index < num_parameters(); ++index) {
    at::Tensor parameter = (*this)[index].parameter;
    parameter.mutable_grad() = view(gradient, index);
  }
}

}  // namespace dsft::zero
