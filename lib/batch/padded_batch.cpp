#include "batch/padded_batch.h"

#include <torch/types.h>

#include <algorithm>
#include <bit>

#include "base/error.h"
#include "device/device.h"

namespace dsft {
namespace {

constexpr int64_t kTokenMultiple = 64;
constexpr int64_t kAlignmentBytes = 16;

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
int64_t power_of_two(int64_t value) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(value)));
}

int64_t padded_tokens(int64_t tokens) {
  return round_up(tokens, std::max(kTokenMultiple, power_of_two(tokens) / 16));
}

// [..., count] -> [..., wanted], again from its beginning
at::Tensor repeated(const at::Tensor& tensor, int64_t wanted) {
  const int64_t count = tensor.size(-1);
  return tensor.index_select(-1, torch::arange(wanted, at::kLong).remainder(count));
}

void pad_tokens(Batch& batch, int64_t tokens) {
  const int64_t count = batch.num_tokens(), missing = tokens - count;
  if (missing == 0) return;
  const at::Tensor places = torch::arange(missing, at::kLong);
  batch.ids = repeated(batch.ids, tokens);
  batch.positions = torch::cat({batch.positions, places.expand({batch.positions.size(0), missing})}, 1);
  batch.labels = torch::cat({batch.labels, torch::full({missing}, -100, at::kLong)});
  batch.sample_keys = torch::cat({batch.sample_keys, torch::zeros({missing}, at::kLong)});
  batch.boundaries.push_back(tokens);
}

void pad_supervised(Batch& batch, int64_t supervised) {
  const int64_t count = batch.supervised.numel(), missing = supervised - count;
  DSFT_CHECK(count > 0 || missing == 0, "a batch without a supervised token is to have ", supervised);
  const at::Tensor weights = batch.weights.defined() ? batch.weights : torch::ones({count});
  batch.weights = torch::cat({weights, torch::zeros({missing})});
  if (missing > 0) batch.supervised = repeated(batch.supervised, supervised);
}

// The repeated tokens lie behind the last row's end, in no row.
void pad_policy(PolicyTargets& policy, const PaddedShape& shape) {
  const int64_t missing = shape.documents - policy.advantages.numel();
  const at::Tensor end = policy.row_starts.narrow(0, policy.row_starts.numel() - 1, 1);
  policy.row_starts = torch::cat({policy.row_starts, end.expand({missing})});
  policy.row_weights = torch::cat({policy.row_weights, torch::zeros({missing})});
  policy.advantages = torch::cat({policy.advantages, torch::zeros({missing})});
  for (at::Tensor* of_tokens : {&policy.rows, &policy.old_log_probs, &policy.reference_log_probs,
                                &policy.sampling_log_probs, &policy.entropy_mask})
    if (of_tokens->defined() && of_tokens->numel() < shape.supervised)
      *of_tokens = repeated(*of_tokens, shape.supervised);
}

int64_t bytes_of(const at::Tensor& tensor) {
  return tensor.defined() ? static_cast<int64_t>(tensor.nbytes()) : 0;
}

// The tensors of a batch in one buffer, from an offset that all of their types can have; undefined where they are.
std::vector<at::Tensor> views_of(const at::Tensor& bytes, Batch& like) {
  std::vector<at::Tensor> views;
  int64_t offset = 0;
  for (const at::Tensor* tensor : like.device_tensors()) {
    const int64_t size = bytes_of(*tensor);
    views.push_back(tensor->defined() ? bytes.narrow(0, offset, size).view(tensor->scalar_type()).view(tensor->sizes())
                                      : at::Tensor());
    offset += round_up(size, kAlignmentBytes);
  }
  return views;
}

int64_t num_bytes(Batch& batch) {
  int64_t size = 0;
  for (const at::Tensor* tensor : batch.device_tensors()) size += round_up(bytes_of(*tensor), kAlignmentBytes);
  return size;
}

}  // namespace

PaddedShape padded_shape(const Batch& batch) {
  PaddedShape shape;
  shape.tokens = padded_tokens(batch.num_tokens());
  const int64_t missing = shape.tokens - batch.num_tokens();
  shape.documents = power_of_two(batch.num_documents() + (missing > 0 ? 1 : 0));
  shape.supervised = round_up(batch.supervised.numel(), shape.tokens / 4);
  shape.longest = power_of_two(std::max({batch.longest, missing, shape.tokens / 4}));
  if (batch.policy) shape.policy_members = batch.policy->members();
  return shape;
}

Batch pad_batch(const Batch& batch, const PaddedShape& shape) {
  Batch padded = batch;
  pad_tokens(padded, shape.tokens);
  DSFT_CHECK(padded.num_documents() <= shape.documents && batch.longest <= shape.longest, "a batch of ",
             batch.num_documents(), " documents does not fit into ", shape.documents);
  padded.boundaries.resize(static_cast<size_t>(shape.documents) + 1, shape.tokens);
  padded.starts = torch::tensor(padded.boundaries, at::kInt);
  padded.samples = torch::cat({batch.samples, torch::zeros({shape.documents - batch.num_documents()}, at::kLong)});
  padded.longest = shape.longest;
  pad_supervised(padded, shape.supervised);
  if (padded.policy) pad_policy(*padded.policy, shape);
  return padded;
}

BatchBuffer::BatchBuffer(const Batch& first, at::Device device) : batch_(first) {
  bytes_ = torch::empty({num_bytes(batch_)}, at::TensorOptions(at::kByte).device(device));
  const std::vector<at::Tensor> views = views_of(bytes_, batch_);
  const std::vector<at::Tensor*> tensors = batch_.device_tensors();
  for (size_t i = 0; i < tensors.size(); ++i) *tensors[i] = views[i];
}

const Batch& BatchBuffer::load(const Batch& batch) {
  Batch next = batch;
  // pinned at once, not by one more copy
  const at::Tensor host = torch::empty(
      {bytes_.numel()}, at::TensorOptions(at::kByte).pinned_memory(device::is_asynchronous(bytes_.device())));
  const std::vector<at::Tensor> places = views_of(host, batch_);
  const std::vector<at::Tensor*> given = next.device_tensors(), own = batch_.device_tensors();
  DSFT_CHECK(given.size() == own.size(), "a batch of other tensors than the first");
  for (size_t i = 0; i < given.size(); ++i) {
    DSFT_CHECK(given[i]->defined() == own[i]->defined(), "a batch of other tensors than the first");
    if (!given[i]->defined()) continue;
    DSFT_CHECK(given[i]->sizes() == own[i]->sizes(), "a batch of other sizes than the first");
    places[i].copy_(*given[i]);
    *given[i] = *own[i];
  }
  device::copy_from_host(host, bytes_);
  batch_ = next;
  return batch_;
}

}  // namespace dsft
