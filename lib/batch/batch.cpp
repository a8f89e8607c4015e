#include "batch/batch.h"

#include "base/error.h"
#include "device/device.h"

namespace dsft {

Batch Batch::to(at::Device device) const {
  Batch moved = *this;
  for (at::Tensor* tensor : {&moved.ids, &moved.positions, &moved.labels, &moved.supervised, &moved.samples})
    *tensor = device::copy_from_host(*tensor, device);
  return moved;
}

Batch make_batch(const std::vector<Document>& documents, int64_t epoch) {
  Batch batch;
  batch.epoch = epoch;
  batch.boundaries.push_back(0);
  for (const Document& document : documents) {
    DSFT_CHECK(!document.ids.empty() && document.ids.size() == document.labels.size(), "a document has ",
               document.ids.size(), " ids and ", document.labels.size(), " labels");
    batch.boundaries.push_back(batch.boundaries.back() + static_cast<int64_t>(document.ids.size()));
  }
  const int64_t num_tokens = batch.boundaries.back();
  batch.ids = at::empty({num_tokens}, at::kLong);
  batch.positions = at::empty({1, num_tokens}, at::kLong);
  batch.labels = at::empty({num_tokens}, at::kLong);
  batch.samples = at::empty({batch.num_documents()}, at::kLong);
  auto* ids = batch.ids.data_ptr<int64_t>();
  auto* positions = batch.positions.data_ptr<int64_t>();
  auto* labels = batch.labels.data_ptr<int64_t>();
  auto* samples = batch.samples.data_ptr<int64_t>();
  int64_t token = 0;
  for (size_t d = 0; d < documents.size(); ++d) {
    samples[d] = documents[d].sample;
    for (size_t i = 0; i < documents[d].ids.size(); ++i, ++token) {
      ids[token] = documents[d].ids[i];
      positions[token] = static_cast<int64_t>(i);
      labels[token] = i == 0 ? -100 : documents[d].labels[i];
    }
  }
  batch.supervised = batch.labels.ne(-100).nonzero().squeeze(1);
  return batch;
}

}  // namespace dsft
