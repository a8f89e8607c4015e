#include "zero/sharded_optimizer.h"

#include <torch/types.h>

#include <algorithm>

#include "base/error.h"
#include "optim/gradient_norm.h"

namespace dsft::zero {
namespace {

// bounds the communicator's scratch memory
constexpr int64_t kReduceBucketElements = int64_t{1} << 23;

constexpr const char* kAppliedUpdates = "applied_updates";
constexpr const char* kLossScaler = "loss_scaler";
constexpr int64_t kScalerValues = 4;

at::Tensor to_cpu(const at::Tensor& tensor) {
  return tensor.detach().to(at::kCPU).contiguous();
}

}  // namespace

struct ShardedOptimizer::PendingReduction {
  at::Tensor sums, gradient;  // of a reduce-scatter: `sums` are a part of `gradient`
  std::unique_ptr<comm::Work> work;
};

ShardedOptimizer::ShardedOptimizer(std::vector<TrainableParameter> parameters, const OptimizerOptions& options,
                                   comm::Communicator& communicator)
    : flat_(std::move(parameters),
            options.stage == 0 ? Sharding{} : Sharding{communicator.size(), communicator.rank()}),
      options_(options),
      communicator_(communicator),
      is_reduced_(static_cast<size_t>(flat_.num_parameters()), false) {
  DSFT_CHECK(options.stage == 0 || options.stage == 1, "zero stage ", options.stage, " is not built yet");
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
  if (!is_last_micro_batch_ || !options_.overlaps_backward) return;
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
  const ShardPlan& plan = flat_.plan();
  for (int64_t next = first; next < last;) {
    const ShardPlan::Bucket& bucket = plan.bucket_of(next);
    int64_t end = std::min(last, bucket.last);
    if (bucket.is_sharded) {
      if (std::all_of(is_reduced_.begin() + bucket.first, is_reduced_.begin() + bucket.last,
                      [](bool is) { return is; }))
        start_reduce_scatter(bucket);
    } else {
      while (end < last && !plan.bucket_of(end).is_sharded) end = std::min(last, plan.bucket_of(end).last);
      start_all_reduce({plan.offset(next), plan.offset(end)});
    }
    next = end;
  }
}

void ShardedOptimizer::start_all_reduce(Range elements) {
  for (int64_t begin = elements.begin; begin < elements.end; begin += kReduceBucketElements) {
    PendingReduction reduction;
    reduction.sums = flat_.gradient.narrow(0, begin, std::min(kReduceBucketElements, elements.end - begin));
    reduction.work = communicator_.start_all_reduce(reduction.sums, comm::ReduceOp::kSum);
    pending_.push_back(std::move(reduction));
  }
}

// In place: the sums of this rank's slice stand where its own gradients stood, and the rest is no gradient any more.
void ShardedOptimizer::start_reduce_scatter(const ShardPlan::Bucket& bucket) {
  const Range own = flat_.plan().own_slice(bucket);
  PendingReduction reduction;
  reduction.gradient = flat_.gradient.narrow(0, bucket.whole.begin, bucket.whole.size());
  reduction.sums = flat_.gradient.narrow(0, own.begin, own.size());
  reduction.work = communicator_.start_reduce_scatter(reduction.sums, reduction.gradient);
  pending_.push_back(std::move(reduction));
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
  graph && !flat_.plan().is_sharded() ? graph->run(work) : work();
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

// Of the whole reduced gradient. Each rank adds its slices of what is sharded; the rest is the same on all.
at::Tensor ShardedOptimizer::sum_of_squares() {
  const ShardPlan& plan = flat_.plan();
  if (!plan.is_sharded()) return optim::sum_of_squares(flat_.gradient);
  at::Tensor sharded = at::zeros_like(grad_norm_), replicated = at::zeros_like(grad_norm_);
  for (const ShardPlan::Bucket& bucket : plan.buckets()) {
    const Range own = plan.own_slice(bucket);
    (bucket.is_sharded ? sharded : replicated)
        .add_(optim::sum_of_squares(flat_.gradient.narrow(0, own.begin, own.size())));
  }
  communicator_.all_reduce(sharded);
  return sharded + replicated;
}

// What of an update the device does; it is enqueued the same each time.
void ShardedOptimizer::update(const at::Tensor& learning_rates) {
  const at::Tensor scale = loss_scale_.to(at::kDouble);
  grad_norm_.copy_(sum_of_squares().sqrt() / scale);
  is_applied_.copy_(at::isfinite(grad_norm_));
  learning_rate_.copy_(
      learning_rates.index_select(0, num_applied_updates_.clamp_max(learning_rates.numel() - 1).unsqueeze(0))
          .squeeze(0));
  const at::Tensor factor = optim::clip_factor(grad_norm_, options_.max_grad_norm) / scale;
  for (const FlatParameters::Span& span : flat_.spans()) {
    const int64_t first = span.first_parameter;
    optim::AdamWOptions adamw = options_.adamw;
    if (!flat_[first].has_weight_decay) adamw.weight_decay = 0;
    optim::AdamWTensors tensors{
        .weight = flat_.has_master(first) ? span.of_own(flat_.master) : span.of_whole(flat_.values),
        .gradient = span.of_whole(flat_.gradient),
        .exp_avg = span.of_own(flat_.exp_avg),
        .exp_avg_sq = span.of_own(flat_.exp_avg_sq)};
    if (flat_.has_master(first)) tensors.copy = span.of_whole(flat_.narrow_values);
    optim::adamw_update(tensors, adamw,
                        {.learning_rate = learning_rate_,
                         .gradient_factor = factor,
                         .num_applied_updates = num_applied_updates_,
                         .is_applied = is_applied_});
  }
  num_applied_updates_.add_(is_applied_);
  flat_.gradient.zero_();
  gather_values();
}

// Each rank has updated its slice of what is sharded.
void ShardedOptimizer::gather_values() {
  struct Gathering {
    at::Tensor whole, own;
    std::unique_ptr<comm::Work> work;
  };
  std::vector<Gathering> gatherings;
  for (const ShardPlan::Bucket& bucket : flat_.plan().buckets()) {
    if (!bucket.is_sharded) continue;
    const at::Tensor& values = flat_.values_of(bucket);
    const Range own = flat_.plan().own_slice(bucket);
    gatherings.push_back(
        {values.narrow(0, bucket.whole.begin, bucket.whole.size()), values.narrow(0, own.begin, own.size()), nullptr});
    gatherings.back().work = communicator_.start_all_gather(gatherings.back().whole, gatherings.back().own);
  }
  for (Gathering& gathering : gatherings) gathering.work->wait();
}

// Backward passes that are replayed read it from the device.
void ShardedOptimizer::update_loss_scale() {
  loss_scale_.fill_(loss_scaler_ ? loss_scaler_->scale() : 1.0);
}

int64_t ShardedOptimizer::num_applied_updates() const {
  return num_applied_updates_.item<int64_t>();
}

std::vector<NamedState> ShardedOptimizer::state() const {
  const ShardPlan& plan = flat_.plan();
  const bool has_the_rest = !plan.is_sharded() || communicator_.rank() == 0;
  std::vector<NamedState> state;
  const auto add = [&](const std::string& name, const at::Tensor& own, int64_t index) {
    const at::Tensor part = flat_.own_view(own, index);
    if (!plan.bucket_of(index).is_sharded) {
      if (has_the_rest) state.push_back({name, to_cpu(part.view(flat_[index].parameter.sizes()))});
    } else if (part.numel() > 0) {
      state.push_back({concat(name, "@", plan.own_part(index).begin - plan.offset(index)), to_cpu(part)});
    }
  };
  for (int64_t index = 0; index < flat_.num_parameters(); ++index)
    for (const StateKind& kind : kinds_of(index)) add(flat_[index].name + kind.suffix, *kind.own, index);
  // every rank's part says how far it is
  state.push_back({kAppliedUpdates, to_cpu(num_applied_updates_).clone()});
  if (loss_scaler_ && has_the_rest) {
    const optim::LossScaler::State& scaler = loss_scaler_->state();
    state.push_back({kLossScaler, at::tensor({scaler.scale, static_cast<double>(scaler.iteration),
                                              static_cast<double>(scaler.last_overflow_iteration),
                                              static_cast<double>(scaler.hysteresis)},
                                             at::kDouble)});
  }
  return state;
}

std::vector<ShardedOptimizer::StateKind> ShardedOptimizer::kinds_of(int64_t index) const {
  std::vector<StateKind> kinds;
  if (flat_.has_master(index)) kinds.push_back({".master", &flat_.master});
  kinds.insert(kinds.end(), {{".exp_avg", &flat_.exp_avg}, {".exp_avg_sq", &flat_.exp_avg_sq}});
  return kinds;
}

void ShardedOptimizer::restore(const std::vector<NamedState>& state) {
  at::NoGradGuard no_grad;
  SavedState saved(state);
  // nothing is changed before all of it has been checked
  for (int64_t index = 0; index < flat_.num_parameters(); ++index)
    for (const StateKind& kind : kinds_of(index))
      saved.expect(flat_[index].name + kind.suffix, at::empty(flat_[index].parameter.sizes(), at::kFloat));
  saved.expect(kAppliedUpdates, at::empty({}, at::kLong));
  if (loss_scaler_) saved.expect(kLossScaler, at::empty({kScalerValues}, at::kDouble));
  const std::string faults = saved.faults();
  if (!faults.empty()) {
    fail(ErrorKind::kCheckpoint,
         "the saved optimizer state does not fit the parameters that this recipe trains:", faults);
  }
  for (int64_t index = 0; index < flat_.num_parameters(); ++index) {
    const std::string& name = flat_[index].name;
    const int64_t first = flat_.plan().own_part(index).begin - flat_.plan().offset(index);
    for (const StateKind& kind : kinds_of(index))
      saved.copy(name + kind.suffix, first, flat_.own_view(*kind.own, index));
    if (!flat_.has_master(index)) continue;
    saved.copy(name + ".master", 0, flat_.view(flat_.narrow_values, index).view(-1));
    flat_[index].parameter.unsafeGetTensorImpl()->bump_version();
  }
  saved.copy(kAppliedUpdates, 0, num_applied_updates_.view(-1));
  if (loss_scaler_) {
    double values[kScalerValues];
    saved.copy(kLossScaler, 0, at::from_blob(values, {kScalerValues}, at::kDouble));
    loss_scaler_->restore(
        {values[0], static_cast<int64_t>(values[1]), static_cast<int64_t>(values[2]), static_cast<int64_t>(values[3])});
    update_loss_scale();
  }
}

}  // namespace dsft::zero
