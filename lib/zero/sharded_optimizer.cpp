#include "zero/sharded_optimizer.h"

#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "optim/gradient_norm.h"

namespace dsft::zero {
namespace {

// bounds the communicator's scratch memory
constexpr int64_t kReduceBucketElements = int64_t{1} << 23;

}  // namespace

struct ShardedOptimizer::PendingReduction {
  at::Tensor sums;
  at::Tensor input = {};   // of a reduce-scatter: what `sums` are a slice's sums of
  at::Tensor target = {};  // what the sums are added to; undefined: they stand where they should, or leave for
  std::optional<size_t> host_range = {};
  bool is_last_micro_batch = true;
  std::unique_ptr<comm::Work> work = nullptr;  // null: there is nothing to wait for
};

ShardedOptimizer::ShardedOptimizer(std::vector<TrainableParameter> parameters, const OptimizerOptions& options,
                                   comm::Communicator& communicator)
    : flat_(lay_out(std::move(parameters), options, communicator)),
      options_(options),
      communicator_(communicator),
      is_reduced_(static_cast<size_t>(flat_.num_parameters()), false),
      has_sums_(flat_.plan().buckets().size(), false) {
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
  move_state_to_host();
}

ShardedOptimizer::~ShardedOptimizer() = default;

std::vector<BlockBuffer> ShardedOptimizer::buffers() const {
  std::vector<BlockBuffer> buffers;
  for (const ShardPlan::Bucket& bucket : flat_.plan().buckets())
    if (GatheredBuffer* buffer = flat_.gathered(bucket)) buffers.push_back({buffer, flat_[bucket.first].block});
  return buffers;
}

std::vector<at::Tensor> ShardedOptimizer::lasting_gradients() const {
  std::vector<at::Tensor> gradients{flat_.gradient};
  for (const ShardPlan::Bucket& bucket : flat_.plan().buckets())
    if (bucket.is_sharded && !flat_.is_transient(bucket)) gradients.push_back(flat_.whole_gradient(bucket));
  return gradients;
}

std::vector<at::Tensor> ShardedOptimizer::lasting_state() const {
  std::vector<at::Tensor> state{flat_.exp_avg, flat_.exp_avg_sq};
  if (flat_.master.defined()) state.push_back(flat_.master);
  return state;
}

int64_t ShardedOptimizer::index_of(const at::Tensor& parameter) const {
  for (int64_t index = 0; index < flat_.num_parameters(); ++index) {
    if (flat_[index].parameter.is_same(parameter)) return index;
  }
  return -1;
}

void ShardedOptimizer::backward(const at::Tensor& loss, bool is_last_micro_batch) {
  is_last_micro_batch_ = is_last_micro_batch;
  accumulate(loss);
  reduce_rest(is_last_micro_batch);
}

void ShardedOptimizer::rehearse_backward(const at::Tensor& loss) {
  is_rehearsed_ = is_last_micro_batch_ = true;  // until discard_gradients()
  accumulate(loss);
  reduce_rest(/*is_last_micro_batch=*/true);
  finish_reductions();
}

void ShardedOptimizer::accumulate(const at::Tensor& loss) {
  const int64_t writes_before = count_writes();
  has_new_gradients_ = false;
  (loss_scaler_ ? loss * loss_scale_ : loss).backward();
  for (int64_t index = 0; index < flat_.num_parameters(); ++index) {
    if (!is_reduced_[index])
      add_gradient(index);
    else if (flat_.is_transient(flat_.plan().bucket_of(index)))
      DSFT_CHECK(!flat_[index].parameter.grad().defined(), flat_[index].name, " got a gradient after its block's pass");
  }
  // a first hidden state that does not require gradients would leave all of them undefined, in silence
  DSFT_CHECK(has_new_gradients_ || count_writes() != writes_before, "the backward pass reached no trainable parameter");
}

// Into the gradients that are there; buffers that come and go are looked at where they go (has_new_gradients_).
int64_t ShardedOptimizer::count_writes() const {
  int64_t count = flat_.gradient._version();
  for (const ShardPlan::Bucket& bucket : flat_.plan().buckets())
    if (flat_.whole_gradient(bucket).defined()) count += flat_.whole_gradient(bucket)._version();
  return count;
}

// What gradients_final() was not told of.
void ShardedOptimizer::reduce_rest(bool is_last_micro_batch) {
  is_last_micro_batch_ = is_last_micro_batch;
  for (int64_t first = 0; first < flat_.num_parameters();) {
    int64_t last = first;
    while (last < flat_.num_parameters() && is_reduced_[last] == is_reduced_[first]) ++last;
    if (!is_reduced_[first]) start_reduction(first, last);
    first = last;
  }
  is_last_micro_batch_ = false;
  if (is_last_micro_batch) return;
  // the next micro-batch's gradients come on top
  finish_reductions();
  std::fill(is_reduced_.begin(), is_reduced_.end(), false);
}

void ShardedOptimizer::clear_gradients() {
  flat_.clear_gradients();
  std::fill(has_sums_.begin(), has_sums_.end(), false);
}

void ShardedOptimizer::discard_gradients() {
  const at::NoGradGuard no_grad;
  is_rehearsed_ = is_last_micro_batch_ = false;
  pending_.clear();  // those of a rehearsal, which wait for nobody
  std::fill(is_reduced_.begin(), is_reduced_.end(), false);
  for (const ShardPlan::Bucket& bucket : flat_.plan().buckets())
    if (flat_.is_transient(bucket)) flat_.detach_gradients(bucket);
  flat_.attach_gradients();
  clear_gradients();
  if (host_) host_->discard_gradients();
}

bool ShardedOptimizer::has_stable_gradients() const {
  const auto& buckets = flat_.plan().buckets();
  return std::none_of(buckets.begin(), buckets.end(),
                      [this](const auto& bucket) { return flat_.is_transient(bucket); });
}

void ShardedOptimizer::gradients_begin(const std::vector<int64_t>& indices) {
  const at::NoGradGuard no_grad;
  for (int64_t index : indices) {
    const ShardPlan::Bucket& bucket = flat_.plan().bucket_of(index);
    if (flat_.is_transient(bucket)) flat_.offer_gradients(bucket);
  }
}

void ShardedOptimizer::gradients_final(const std::vector<int64_t>& indices) {
  for (int64_t index : indices) add_gradient(index);
  for (size_t i = 0; i < indices.size();) {
    const int64_t first = indices[i];
    int64_t last = first;
    while (i < indices.size() && indices[i] == last) ++i, ++last;
    // what is there for a part of the pass alone cannot wait for its end
    if (options_.overlaps_backward || flat_.is_transient(flat_.plan().bucket_of(first))) start_reduction(first, last);
  }
  if (!options_.overlaps_backward) finish_reductions();
}

// Backward passes add to the fp32 sums by themselves, unless autograd put another tensor in the place of one.
void ShardedOptimizer::add_gradient(int64_t index) {
  const at::Tensor given = flat_[index].parameter.grad(), sum = flat_.gradient_of(index);
  const bool is_there = given.defined() && sum.defined() && given.data_ptr() == sum.data_ptr();
  if (!is_there && (given.defined() || sum.defined())) flat_.attach_gradients(flat_.plan().bucket_of(index));
}

// A whole gradient that is not there for good.
void ShardedOptimizer::drop_gradient(const ShardPlan::Bucket& bucket) {
  if (!flat_.is_transient(bucket) || !flat_.whole_gradient(bucket).defined()) return;
  has_new_gradients_ = has_new_gradients_ || flat_.whole_gradient(bucket)._version() > 0;
  flat_.detach_gradients(bucket);
}

bool ShardedOptimizer::is_reduced_now(const ShardPlan::Bucket& bucket) const {
  return is_last_micro_batch_ || flat_.is_transient(bucket);
}

void ShardedOptimizer::start_reduction(int64_t first, int64_t last) {
  const ShardPlan& plan = flat_.plan();
  for (int64_t next = first; next < last;) {
    const ShardPlan::Bucket& bucket = plan.bucket_of(next);
    int64_t end = std::min(last, bucket.last);
    if (!bucket.is_sharded)
      while (end < last && !plan.bucket_of(end).is_sharded) end = std::min(last, plan.bucket_of(end).last);
    if (is_reduced_now(bucket)) {
      for (int64_t index = next; index < end; ++index) {
        DSFT_CHECK(!is_reduced_[index], flat_[index].name, " was said to be final twice in one update");
        is_reduced_[index] = true;
      }
      const auto begin = is_reduced_.begin();
      if (!bucket.is_sharded) {
        // in place: of a rehearsal there is nothing to do
        if (!is_rehearsed_) start_all_reduce(next, end);
      } else if (std::all_of(begin + bucket.first, begin + bucket.last, [](bool is_reduced) { return is_reduced; })) {
        start_reduce_scatter(bucket);
      }
    }
    next = end;
  }
}

// Of parameters that every rank has whole, which lie together in its own form.
void ShardedOptimizer::start_all_reduce(int64_t first, int64_t last) {
  const ShardPlan& plan = flat_.plan();
  const Range elements{plan.own_place(plan.bucket_of(first), plan.offset(first)),
                       plan.own_place(plan.bucket_of(last - 1), plan.own_part(last - 1).end)};
  communicator_.name_next(flat_[first].name);
  for (int64_t begin = elements.begin; begin < elements.end; begin += kReduceBucketElements) {
    PendingReduction reduction{
        .sums = flat_.gradient.narrow(0, begin, std::min(kReduceBucketElements, elements.end - begin))};
    reduction.work = communicator_.start_all_reduce(reduction.sums, comm::ReduceOp::kSum);
    pending_.push_back(std::move(reduction));
  }
}

void ShardedOptimizer::start_reduce_scatter(const ShardPlan::Bucket& bucket) {
  flat_.attach_gradients(bucket);  // a rank that no gradient reached adds zeros
  const int64_t size = flat_.plan().own_slice(bucket).size();
  PendingReduction reduction{.sums = {}, .input = flat_.whole_gradient(bucket)};
  if (flat_.holds_state(bucket)) {
    reduction.sums = flat_.gradient.narrow(0, bucket.own_begin, size);
    // the first sums of an update go where they stay, later ones, which take more, come on top
    const size_t index = flat_.plan().index_of(bucket);
    const bool comes_on_top = has_sums_[index] || (is_rehearsed_ && options_.accumulates);
    if (flat_.is_transient(bucket) && comes_on_top) std::swap(reduction.target, reduction.sums);
    has_sums_[index] = true;
  } else {
    reduction.host_range = host_range_of(bucket);
    reduction.is_last_micro_batch = is_last_micro_batch_;
  }
  if (flat_.is_transient(bucket) || !reduction.sums.defined()) {
    drop_gradient(bucket);
    // few gradients are there at a time beside those that stay; the one before had a block's pass to be done
    finish_reductions();
  }
  if (!reduction.sums.defined()) reduction.sums = at::empty({size}, flat_.gradient.options());
  if (is_rehearsed_) {  // what this rank adds, without the others
    reduction.sums.copy_(reduction.input.narrow(0, communicator_.rank() * size, size));
  } else {
    communicator_.name_next(flat_[bucket.first].name);
    reduction.work = communicator_.start_reduce_scatter(reduction.sums, reduction.input);
  }
  pending_.push_back(std::move(reduction));
}

// In the order in which they were started.
void ShardedOptimizer::finish_reductions() {
  const at::NoGradGuard no_grad;
  while (!pending_.empty()) {
    PendingReduction& reduction = pending_.front();
    if (reduction.work) reduction.work->wait();
    if (reduction.target.defined()) reduction.target.add_(reduction.sums);
    if (reduction.host_range)
      host_->take_gradients(*reduction.host_range, reduction.sums, reduction.is_last_micro_batch);
    pending_.pop_front();
  }
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
    if (!flat_.holds_state(bucket)) continue;
    const at::Tensor own = flat_.gradient.narrow(0, bucket.own_begin, plan.own_slice(bucket).size());
    (bucket.is_sharded ? sharded : replicated).add_(optim::sum_of_squares(own));
  }
  if (host_) sharded.add_(host_->sum_of_squares());
  communicator_.all_reduce(sharded);
  return sharded + replicated;
}

// The last one beyond the end.
at::Tensor ShardedOptimizer::entry_of_update(const at::Tensor& table) const {
  return table.index_select(0, num_applied_updates_.clamp_max(table.numel() - 1).unsqueeze(0)).squeeze(0);
}

// What of an update the device does; it is enqueued the same each time.
void ShardedOptimizer::update(const at::Tensor& learning_rates) {
  for (const ShardPlan::Bucket& bucket : flat_.plan().buckets())
    if (GatheredBuffer* buffer = flat_.gathered(bucket)) buffer->release();
  const at::Tensor scale = loss_scale_.to(at::kDouble);
  grad_norm_.copy_(sum_of_squares().sqrt() / scale);
  is_applied_.copy_(at::isfinite(grad_norm_));
  learning_rate_.copy_(entry_of_update(learning_rates));
  const at::Tensor beta1 = options_.beta1s.defined() ? entry_of_update(options_.beta1s) : at::Tensor();
  const at::Tensor factor = optim::clip_factor(grad_norm_, options_.max_grad_norm) / scale;
  GatheredBuffer* first_gathered = nullptr;  // its gathering runs beside the rest of the update
  for (const FlatParameters::Span& span : flat_.spans()) {
    const int64_t first = span.first_parameter;
    const ShardPlan::Bucket& bucket = flat_.plan().bucket_of(first);
    if (!flat_.holds_state(bucket)) continue;
    if (first_gathered && flat_.gathered(bucket) != first_gathered && options_.overlaps_backward)
      first_gathered->start_gather();
    if (!first_gathered) first_gathered = flat_.gathered(bucket);
    const at::Tensor values = flat_.values_of(span);
    // of offloaded parameters a copy
    const at::Tensor on_device = values.to(values.options().device(flat_.device()), /*non_blocking=*/true);
    optim::AdamWOptions adamw = options_.adamw;
    if (!flat_[first].has_weight_decay) adamw.weight_decay = 0;
    optim::AdamWTensors tensors{.weight = flat_.has_master(first) ? span.of_own(flat_.master) : on_device,
                                .gradient = span.of_own(flat_.gradient),
                                .exp_avg = span.of_own(flat_.exp_avg),
                                .exp_avg_sq = span.of_own(flat_.exp_avg_sq)};
    if (flat_.has_master(first)) tensors.copy = on_device;
    optim::adamw_update(tensors, adamw,
                        {.learning_rate = learning_rate_,
                         .gradient_factor = factor,
                         .num_applied_updates = num_applied_updates_,
                         .is_applied = is_applied_,
                         .beta1 = beta1});
    if (!on_device.is_same(values)) values.copy_(on_device, /*non_blocking=*/true);
  }
  if (host_) start_update_on_host(factor, beta1);
  num_applied_updates_.add_(is_applied_);
  clear_gradients();
  gather_values();
}

// Each rank has updated its slice of what is sharded. Parameters that are gathered wait until they are used.
void ShardedOptimizer::gather_values() {
  struct Gathering {
    at::Tensor whole, own;
    std::unique_ptr<comm::Work> work;
  };
  std::vector<Gathering> gatherings;
  for (const ShardPlan::Bucket& bucket : flat_.plan().buckets()) {
    if (!bucket.is_sharded || flat_.gathered(bucket)) continue;
    if (host_) host_->wait_for(host_range_of(bucket));
    const at::Tensor& values = flat_.values_of(bucket);
    const Range own = flat_.plan().own_slice(bucket);
    if (own == bucket.whole) continue;  // there is one rank
    gatherings.push_back(
        {values.narrow(0, bucket.whole.begin, bucket.whole.size()), values.narrow(0, own.begin, own.size()), nullptr});
    communicator_.name_next(flat_[bucket.first].name);
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

}  // namespace dsft::zero
