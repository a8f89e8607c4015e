#include "zero/sharded_optimizer.h"

#include <torch/types.h>

#include <algorithm>
#include <map>

#include "base/error.h"
#include "optim/gradient_norm.h"

namespace dsft::zero {
namespace {

// bounds the communicator's scratch memory
constexpr int64_t kReduceBucketElements = int64_t{1} << 23;

at::Tensor to_cpu(const at::Tensor& tensor) {
  return tensor.detach().to(at::kCPU).contiguous();
}

}  // namespace

struct ShardedOptimizer::PendingReduction {
  at::Tensor gradient;
  std::unique_ptr<comm::Work> work;
};

ShardedOptimizer::ShardedOptimizer(std::vector<TrainableParameter> parameters, const OptimizerOptions& options,
                                   comm::Communicator& communicator)
    : flat_(std::move(parameters)),
      options_(options),
      communicator_(communicator),
      is_reduced_(static_cast<size_t>(flat_.num_parameters()), false) {
  DSFT_CHECK(options.stage == 0, "zero stage ", options.stage, " is not built yet");
  if (options.loss_scaler) loss_scaler_.emplace(*options.loss_scaler);
  const auto scalar = [&](at::ScalarType type) {
    return at::zeros({}, at::TensorOptions().dtype(type).device(flat_.device()));
  };
  loss_scale_ = scalar(at::kFloat);
  num_applied_updates_ = scalar(at::kLong);
  grad_norm_ = scalar(at::kDouble);
  is_applied_ = scalar(at::kBool);
  learning_rate_ = scalar(at::kDouble);
  update_loss_scale();
}

ShardedOptimizer::~ShardedOptimizer() = default;

int64_t ShardedOptimizer::index_of(const at::Tensor& parameter) const {
  for (int64_t index = 0; index < flat_.num_parameters(); ++index) {
    if (flat_[index].parameter.is_same(parameter)) return index;
  }
  return -1;
}

void ShardedOptimizer::backward(const at::Tensor& loss, bool is_last_micro_batch) {
  is_last_micro_batch_ = is_last_micro_batch;
  accumulate(loss);
  if (is_last_micro_batch) reduce();
}

void ShardedOptimizer::accumulate(const at::Tensor& loss) {
  const int64_t version_before = flat_.gradient._version();
  (loss_scaler_ ? loss * loss_scale_ : loss).backward();
  for (int64_t index = 0; index < flat_.num_parameters(); ++index) {
    if (!is_reduced_[index]) add_gradient(index);
  }
  // a first hidden state that does not require gradients would leave all of them undefined, in silence
  DSFT_CHECK(flat_.gradient._version() != version_before, "the backward pass reached no trainable parameter");
}

void ShardedOptimizer::reduce() {
  for (int64_t first = 0; first < flat_.num_parameters();) {
    int64_t last = first;
    while (last < flat_.num_parameters() && is_reduced_[last] == is_reduced_[first]) ++last;
    if (!is_reduced_[first]) start_reduction(first, last);
    first = last;
  }
  is_last_micro_batch_ = false;
}

void ShardedOptimizer::discard_gradients() {
  const at::NoGradGuard no_grad;
  flat_.attach_gradients();
  flat_.gradient.zero_();
}

void ShardedOptimizer::gradients_final(const std::vector<int64_t>& indices) {
  for (int64_t index : indices) add_gradient(index);
  if (!is_last_micro_batch_) return;
  for (size_t i = 0; i < indices.size();) {
    const int64_t first = indices[i];
    int64_t last = first;
    while (i < indices.size() && indices[i] == last) ++i, ++last;
    start_reduction(first, last);
  }
}

// Backward passes add to the fp32 sums by themselves, unless autograd put another tensor in the place of one.
void ShardedOptimizer::add_gradient(int64_t index) {
  at::NoGradGuard no_grad;
  at::Tensor parameter = flat_[index].parameter;
  at::Tensor& grad = parameter.mutable_grad();
  at::Tensor sum = flat_.view(flat_.gradient, index);
  if (grad.defined() && grad.data_ptr() == sum.data_ptr()) return;
  if (grad.defined()) sum.add_(grad);
  grad = sum;
}

void ShardedOptimizer::start_reduction(int64_t first, int64_t last) {
  for (int64_t index = first; index < last; ++index) {
    DSFT_CHECK(!is_reduced_[index], flat_[index].name, " was said to be final twice in one update");
    is_reduced_[index] = true;
  }
  for (int64_t begin = flat_.offset(first); begin < flat_.offset(last); begin += kReduceBucketElements) {
    const int64_t numel = std::min(kReduceBucketElements, flat_.offset(last) - begin);
    PendingReduction reduction{flat_.gradient.narrow(0, begin, numel), nullptr};
    reduction.work = communicator_.start_all_reduce(reduction.gradient, comm::ReduceOp::kSum);
    pending_.push_back(std::move(reduction));
  }
}

void ShardedOptimizer::finish_reductions() {
  for (PendingReduction& reduction : pending_) reduction.work->wait();
  pending_.clear();
}

StepResult ShardedOptimizer::clip_and_step(const at::Tensor& learning_rates, device::Graph* graph) {
  at::NoGradGuard no_grad;
  finish_reductions();
  DSFT_CHECK(std::all_of(is_reduced_.begin(), is_reduced_.end(), [](bool is_reduced) { return is_reduced; }),
             "clip_and_step before the last micro-batch's backward");
  const StepResult result{.grad_norm = grad_norm_,
                          .is_applied = is_applied_,
                          .learning_rate = learning_rate_,
                          .loss_scale = loss_scaler_ ? loss_scaler_->scale() : 1.0};
  const auto work = [&] { update(learning_rates); };
  graph ? graph->run(work) : work();
  if (loss_scaler_) {
    // fp16 reads its one flag each step; the others leave it on the device
    loss_scaler_->update(!is_applied_.item<bool>());
    update_loss_scale();
  }
  for (int64_t index = 0; index < flat_.num_parameters(); ++index) {
    flat_[index].parameter.unsafeGetTensorImpl()->bump_version();
  }
  flat_.attach_gradients();
  std::fill(is_reduced_.begin(), is_reduced_.end(), false);
  return result;
}

// What of an update the device does; it is enqueued the same each time.
void ShardedOptimizer::update(const at::Tensor& learning_rates) {
  const at::Tensor scale = loss_scale_.to(at::kDouble);
  grad_norm_.copy_(optim::sum_of_squares(flat_.gradient).sqrt() / scale);
  is_applied_.copy_(at::isfinite(grad_norm_));
  learning_rate_.copy_(
      learning_rates.index_select(0, num_applied_updates_.clamp_max(learning_rates.numel() - 1).unsqueeze(0))
          .squeeze(0));
  const at::Tensor factor = optim::clip_factor(grad_norm_, options_.max_grad_norm) / scale;
  for (const FlatParameters::Run& run : flat_.runs()) {
    optim::AdamWOptions adamw = options_.adamw;
    if (!flat_[run.first].has_weight_decay) adamw.weight_decay = 0;
    optim::AdamWTensors tensors{.weight = flat_.span(flat_.weight, run),
                                .gradient = flat_.span(flat_.gradient, run),
                                .exp_avg = flat_.span(flat_.exp_avg, run),
                                .exp_avg_sq = flat_.span(flat_.exp_avg_sq, run)};
    if (flat_.has_master(run.first)) tensors.copy = flat_.span(flat_.copy, run);
    optim::adamw_update(tensors, adamw,
                        {.learning_rate = learning_rate_,
                         .gradient_factor = factor,
                         .num_applied_updates = num_applied_updates_,
                         .is_applied = is_applied_});
  }
  num_applied_updates_.add_(is_applied_);
  flat_.gradient.zero_();
}

// Backward passes that are replayed read it from the device.
void ShardedOptimizer::update_loss_scale() {
  loss_scale_.fill_(loss_scaler_ ? loss_scaler_->scale() : 1.0);
}

int64_t ShardedOptimizer::num_applied_updates() const {
  return num_applied_updates_.item<int64_t>();
}

std::vector<NamedState> ShardedOptimizer::state() const {
  std::vector<NamedState> state;
  for (int64_t index = 0; index < flat_.num_parameters(); ++index) {
    const std::string& name = flat_[index].name;
    if (flat_.has_master(index)) state.push_back({name + ".master", to_cpu(flat_.view(flat_.weight, index))});
    state.push_back({name + ".exp_avg", to_cpu(flat_.view(flat_.exp_avg, index))});
    state.push_back({name + ".exp_avg_sq", to_cpu(flat_.view(flat_.exp_avg_sq, index))});
  }
  state.push_back({"applied_updates", to_cpu(num_applied_updates_).clone()});
  if (loss_scaler_) {
    const optim::LossScaler::State& scaler = loss_scaler_->state();
    state.push_back({"loss_scaler", at::tensor({scaler.scale, static_cast<double>(scaler.iteration),
                                                static_cast<double>(scaler.last_overflow_iteration),
                                                static_cast<double>(scaler.hysteresis)},
                                               at::kDouble)});
  }
  return state;
}

void ShardedOptimizer::restore(const std::vector<NamedState>& state) {
  at::NoGradGuard no_grad;
  std::map<std::string, at::Tensor> given;
  for (const NamedState& item : state) given[item.name] = item.tensor;
  std::string faults;
  // state() names what is expected, in the shapes expected; nothing is changed before all of it has been checked
  const std::vector<NamedState> expected = this->state();
  for (const NamedState& item : expected) {
    const auto found = given.find(item.name);
    if (found == given.end()) {
      faults += "\n  missing: " + item.name;
    } else if (found->second.sizes() != item.tensor.sizes() ||
               found->second.scalar_type() != item.tensor.scalar_type()) {
      faults +=
          concat("\n  ", item.name, " is ", c10::toString(found->second.scalar_type()), " ", found->second.sizes(),
                 ", not ", c10::toString(item.tensor.scalar_type()), " ", item.tensor.sizes());
    }
  }
  for (const auto& [name, tensor] : given) {
    const bool is_expected =
        std::any_of(expected.begin(), expected.end(), [&](const auto& e) { return e.name == name; });
    if (!is_expected) faults += "\n  unexpected: " + name;
  }
  if (!faults.empty()) {
    fail(ErrorKind::kCheckpoint,
         "the saved optimizer state does not fit the parameters that this recipe trains:", faults);
  }
  for (int64_t index = 0; index < flat_.num_parameters(); ++index) {
    const std::string& name = flat_[index].name;
    flat_.view(flat_.exp_avg, index).copy_(given[name + ".exp_avg"]);
    flat_.view(flat_.exp_avg_sq, index).copy_(given[name + ".exp_avg_sq"]);
    if (!flat_.has_master(index)) continue;
    flat_.view(flat_.weight, index).copy_(given[name + ".master"]);
    flat_.view(flat_.copy, index).copy_(given[name + ".master"]);
    flat_[index].parameter.unsafeGetTensorImpl()->bump_version();
  }
  num_applied_updates_.copy_(given["applied_updates"]);
  if (loss_scaler_) {
    const double* values = given["loss_scaler"].const_data_ptr<double>();
    loss_scaler_->restore(
        {values[0], static_cast<int64_t>(values[1]), static_cast<int64_t>(values[2]), static_cast<int64_t>(values[3])});
    update_loss_scale();
  }
}

}  // namespace dsft::zero
