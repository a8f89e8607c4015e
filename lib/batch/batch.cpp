#include "batch/batch.h"

#include <algorithm>

#include "base/counter_random.h"
#include "base/error.h"
#include "device/device.h"

namespace dsft {

std::vector<at::Tensor*> Batch::device_tensors() {
  std::vector<at::Tensor*> tensors = {&ids, &positions, &labels, &supervised, &weights, &sample_keys, &starts};
  if (policy) {
    const std::vector<at::Tensor*> of_policy = policy->device_tensors();
    tensors.insert(tensors.end(), of_policy.begin(), of_policy.end());
  }
  return tensors;
}

Batch Batch::to(at::Device device) const {
  Batch moved = *this;
  for (at::Tensor* tensor : moved.device_tensors())
    if (tensor->defined()) *tensor = device::copy_from_host(*tensor, device);
  return moved;
}

Batch Batch::pinned_for(at::Device device) const {
  Batch pinned = *this;
  for (at::Tensor* tensor : pinned.device_tensors())
    if (tensor->defined()) *tensor = device::pinned_for(device, *tensor);
  return pinned;
}

Batch make_batch(const std::vector<Document>& documents, int64_t epoch) {
  Batch batch;
  batch.epoch = epoch;
  batch.boundaries.push_back(0);
  for (const Document& document : documents) {
    DSFT_CHECK(!document.ids.empty() && document.ids.size() == document.labels.size(), "a document has ",
               document.ids.size(), " ids and ", document.labels.size(), " labels");
    const auto length = static_cast<int64_t>(document.ids.size());
    batch.boundaries.push_back(batch.boundaries.back() + length);
    batch.longest = std::max(batch.longest, length);
  }
  const int64_t num_tokens = batch.boundaries.back();
  batch.ids = at::empty({num_tokens}, at::kLong);
  batch.positions = at::empty({1, num_tokens}, at::kLong);
  batch.labels = at::empty({num_tokens}, at::kLong);
  batch.samples = at::empty({batch.num_documents()}, at::kLong);
  batch.sample_keys = at::empty({num_tokens}, at::kLong);
  batch.starts = at::empty({batch.num_documents() + 1}, at::kInt);
  std::copy(batch.boundaries.begin(), batch.boundaries.end(), batch.starts.data_ptr<int32_t>());
  auto* ids = batch.ids.data_ptr<int64_t>();
  auto* positions = batch.positions.data_ptr<int64_t>();
  auto* labels = batch.labels.data_ptr<int64_t>();
  auto* samples = batch.samples.data_ptr<int64_t>();
  auto* sample_keys = batch.sample_keys.data_ptr<int64_t>();
  int64_t token = 0;
  for (size_t d = 0; d < documents.size(); ++d) {
    samples[d] = documents[d].sample;
    for (size_t i = 0; i < documents[d].ids.size(); ++i, ++token) {
      ids[token] = documents[d].ids[i];
      positions[token] = static_cast<int64_t>(i);
      sample_keys[token] = sample_key(epoch, documents[d].sample);
      labels[token] = i == 0 ? -100 : documents[d].labels[i];
    }
  }
  batch.supervised = batch.labels.ne(-100).nonzero().squeeze(1);
  return batch;
}

void StepSource::save_state(const std::filesystem::path& /*folder*/) const {}

void StepSource::load_state(const std::filesystem::path& /*folder*/) {}

Batch StepSource::largest_micro_batch() {
  fail(ErrorKind::kInternal, "the largest micro-batch of a source that does not know it");
}

}  // namespace dsft
