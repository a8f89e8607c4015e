#include "zero/flat_parameters.h"

#include <torch/types.h>

#include <algorithm>
#include <set>

#include "base/error.h"
#include "nn/leaf_gradient.h"
#include "nn/parameter_memory.h"

namespace dsft::zero {
namespace {

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

// Parameters of one bucket have one type, so that it is gathered by one call.
std::vector<PlannedParameter> planned(const std::vector<TrainableParameter>& parameters, bool shards) {
  std::vector<PlannedParameter> plan;
  int64_t bucket = 0;
  for (size_t i = 0; i < parameters.size(); ++i) {
    const bool continues = i > 0 && parameters[i].block == parameters[i - 1].block &&
                           parameters[i].parameter.scalar_type() == parameters[i - 1].parameter.scalar_type();
    if (!continues) ++bucket;
    plan.push_back({parameters[i].parameter.numel(), bucket, shards && !parameters[i].is_lora});
  }
  return plan;
}

// Where the gap behind a parameter ends.
int64_t end_with_gap(const ShardPlan& plan, const ShardPlan::Bucket& bucket, int64_t index) {
  return index + 1 == bucket.last ? bucket.whole.end : plan.offset(index + 1);
}

// The same elements; what is written into them does not count as a gradient that came (ShardedOptimizer counts
// versions).
at::Tensor unseen(const at::Tensor& tensor) {
  return tensor.variable_data();
}

}  // namespace

FlatParameters::FlatParameters(std::vector<TrainableParameter> parameters, Sharding sharding)
    : parameters_((check_parameters(parameters), std::move(parameters))),
      plan_(plan_of(parameters_, sharding)),
      shards_gradients_(sharding.has_gradients),
      is_state_elsewhere_(sharding.is_state_elsewhere),
      whole_gradients_(plan_.buckets().size()),
      gathered_(plan_.buckets().size()) {
  find_spans(sharding.gathers_parameters != nullptr);
  move_in(sharding);
  attach_gradients();
}

ShardPlan FlatParameters::plan_of(const std::vector<TrainableParameter>& parameters, const Sharding& sharding) {
  return {planned(parameters, sharding.shards()), sharding.num_ranks, sharding.rank};
}

bool FlatParameters::has_master(int64_t index) const {
  return (*this)[index].parameter.scalar_type() != at::kFloat;
}

at::Tensor FlatParameters::view(const at::Tensor& whole, int64_t index) const {
  const at::Tensor& parameter = (*this)[index].parameter;
  return whole.narrow(0, plan_.offset(index), parameter.numel()).view(parameter.sizes());
}

at::Tensor FlatParameters::own_view(const at::Tensor& own, int64_t index) const {
  const Range part = plan_.own_part(index);
  if (part.size() == 0) return own.narrow(0, 0, 0);
  return own.narrow(0, plan_.own_place(plan_.bucket_of(index), part.begin), part.size());
}

void FlatParameters::find_spans(bool gathers) {
  for (int64_t index = 0; index < num_parameters(); ++index) {
    const ShardPlan::Bucket& bucket = plan_.bucket_of(index);
    const Range slice = plan_.own_slice(bucket);
    const int64_t end = end_with_gap(plan_, bucket, index);
    const Range part = {std::max(slice.begin, plan_.offset(index)), std::min(slice.end, end)};
    if (part.size() <= 0) continue;
    const Span span{index, part.begin, plan_.own_place(bucket, part.begin), part.size()};
    Span* before = spans_.empty() ? nullptr : &spans_.back();
    const bool continues = before != nullptr && before->whole_begin + before->size == span.whole_begin &&
                           before->own_begin + before->size == span.own_begin &&
                           (*this)[before->first_parameter].has_weight_decay == (*this)[index].has_weight_decay &&
                           has_master(before->first_parameter) == has_master(index) &&
                           plan_.bucket_of(before->first_parameter).is_sharded == bucket.is_sharded &&
                           (!gathers || before->first_parameter >= bucket.first);
    if (continues)
      before->size += span.size;
    else
      spans_.push_back(span);
  }
}

void FlatParameters::move_in(const Sharding& sharding) {
  at::NoGradGuard no_grad;
  const int64_t own_size = is_state_elsewhere_ ? plan_.replicated_size() : plan_.own_size();
  const auto wide = at::TensorOptions().dtype(at::kFloat).device((*this)[0].parameter.device());
  for (const ShardPlan::Bucket& bucket : plan_.buckets()) {
    const bool is_gathered = sharding.gathers_parameters && bucket.is_sharded;
    at::Tensor of_bucket;  // whole, where it is gathered
    for (int64_t index = bucket.first; index < bucket.last; ++index) {
      at::Tensor parameter = (*this)[index].parameter;
      at::Tensor& all = is_gathered ? of_bucket : has_master(index) ? narrow_values : values;
      const auto options = parameter.options().requires_grad(false);
      if (!all.defined()) all = at::zeros({is_gathered ? bucket.whole.size() : plan_.whole_size()}, options);
      DSFT_CHECK(all.scalar_type() == parameter.scalar_type(), (*this)[index].name, " mixes 16-bit types");
      const int64_t begin = is_gathered ? bucket.whole.begin : 0;  // of `all`
      const at::Tensor place = all.narrow(0, plan_.offset(index) - begin, parameter.numel()).view(parameter.sizes());
      if (nn::has_memory(parameter)) place.copy_(parameter);
      if (has_master(index) && holds_state(bucket)) {
        if (!master.defined()) master = at::zeros({own_size}, wide);
        const Range part = plan_.own_part(index);
        own_view(master, index).copy_(all.narrow(0, part.begin - begin, part.size()));
      }
      // one by one, so that only one parameter is there twice at a time
      parameter.set_data(place);
    }
    if (is_gathered)
      gathered_[plan_.index_of(bucket)] =
          std::make_unique<GatheredBuffer>(of_bucket, *sharding.gathers_parameters, sharding.slices);
  }
  // last: what the parameters took before is free now
  gradient = at::zeros({own_size}, wide);
  exp_avg = at::zeros_like(gradient);
  exp_avg_sq = at::zeros_like(gradient);
}

at::Tensor FlatParameters::values_of(const Span& span) const {
  const ShardPlan::Bucket& bucket = plan_.bucket_of(span.first_parameter);
  const GatheredBuffer* buffer = gathered(bucket);
  return buffer ? buffer->own().narrow(0, span.own_begin - bucket.own_begin, span.size)
                : span.of_whole(values_of(bucket));
}

at::Tensor FlatParameters::own_values(const ShardPlan::Bucket& bucket) const {
  if (const GatheredBuffer* buffer = gathered(bucket)) return buffer->own();
  const Range slice = plan_.own_slice(bucket);
  return values_of(bucket).narrow(0, slice.begin, slice.size());
}

at::Tensor FlatParameters::own_values(int64_t index) const {
  const ShardPlan::Bucket& bucket = plan_.bucket_of(index);
  const Range part = plan_.own_part(index);
  const at::Tensor own = own_values(bucket);
  if (part.size() == 0) return own.narrow(0, 0, 0);
  return own.narrow(0, part.begin - plan_.own_slice(bucket).begin, part.size());
}

void FlatParameters::take_values() {
  const at::NoGradGuard no_grad;
  for (int64_t index = 0; index < num_parameters(); ++index) {
    if (has_master(index) && holds_state(plan_.bucket_of(index))) own_view(master, index).copy_(own_values(index));
    (*this)[index].parameter.unsafeGetTensorImpl()->bump_version();
  }
}

at::Tensor FlatParameters::gradient_of(int64_t index) const {
  const ShardPlan::Bucket& bucket = plan_.bucket_of(index);
  const at::Tensor& parameter = (*this)[index].parameter;
  if (!bucket.is_sharded) return own_view(gradient, index).view(parameter.sizes());
  const at::Tensor& whole = whole_gradient(bucket);
  if (!whole.defined()) return {};
  return whole.narrow(0, plan_.offset(index) - bucket.whole.begin, parameter.numel()).view(parameter.sizes());
}

void FlatParameters::offer_gradients(const ShardPlan::Bucket& bucket) {
  at::Tensor& whole = whole_gradients_[plan_.index_of(bucket)];
  if (whole.defined()) return;
  whole = at::empty({bucket.whole.size()}, gradient.options());
  for (int64_t index = bucket.first; index < bucket.last; ++index) {
    const at::Tensor& parameter = (*this)[index].parameter;
    const int64_t end = plan_.offset(index) + parameter.numel(), next = end_with_gap(plan_, bucket, index);
    if (end < next) unseen(whole).narrow(0, end - bucket.whole.begin, next - end).zero_();
    nn::offer_gradient(parameter, gradient_of(index));
  }
}

void FlatParameters::attach_gradients(const ShardPlan::Bucket& bucket) {
  at::Tensor& whole = whole_gradients_[plan_.index_of(bucket)];
  if (bucket.is_sharded && !whole.defined()) whole = at::zeros({bucket.whole.size()}, gradient.options());
  const at::NoGradGuard no_grad;
  for (int64_t index = bucket.first; index < bucket.last; ++index) {
    at::Tensor parameter = (*this)[index].parameter;
    at::Tensor sum = gradient_of(index);
    if (nn::withdraw_offered_gradient(parameter)) unseen(sum).zero_();
    const at::Tensor given = parameter.grad();
    if (given.defined() && given.data_ptr() != sum.data_ptr()) sum.add_(given);
    parameter.mutable_grad() = sum;
  }
}

void FlatParameters::attach_gradients() {
  for (const ShardPlan::Bucket& bucket : plan_.buckets())
    if (!is_transient(bucket)) attach_gradients(bucket);
}

void FlatParameters::detach_gradients(const ShardPlan::Bucket& bucket) {
  for (int64_t index = bucket.first; index < bucket.last; ++index) {
    at::Tensor parameter = (*this)[index].parameter;
    nn::withdraw_offered_gradient(parameter);
    parameter.mutable_grad() = at::Tensor();
  }
  whole_gradients_[plan_.index_of(bucket)] = at::Tensor();
}

void FlatParameters::clear_gradients() {
  gradient.narrow(0, 0, plan_.replicated_size()).zero_();
  for (at::Tensor& whole : whole_gradients_)
    if (whole.defined()) whole.zero_();
}

}  // namespace dsft::zero
