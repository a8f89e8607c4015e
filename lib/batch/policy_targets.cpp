#include "batch/policy_targets.h"

#include <torch/types.h>

#include "base/error.h"
#include "batch/batch.h"

namespace dsft {

std::vector<at::Tensor*> PolicyTargets::device_tensors() {
  return {&rows,          &row_starts,          &row_weights,        &advantages,
          &old_log_probs, &reference_log_probs, &sampling_log_probs, &entropy_mask};
}

int64_t PolicyTargets::members() const {
  int64_t bits = 1;
  for (const at::Tensor* tensor : {&old_log_probs, &reference_log_probs, &sampling_log_probs, &entropy_mask})
    bits = 2 * bits + (tensor->defined() ? 1 : 0);
  return bits;
}

void set_policy_rows(Batch& batch, const std::vector<PolicyRow>& rows) {
  DSFT_CHECK(static_cast<int64_t>(rows.size()) == batch.num_documents(), rows.size(), " rows for ",
             batch.num_documents(), " documents");
  const int64_t num_rows = batch.num_documents(), num_tokens = batch.supervised.numel();
  PolicyTargets policy;
  policy.rows = torch::empty({num_tokens}, at::kLong);
  policy.row_starts = torch::empty({num_rows + 1}, at::kLong);
  policy.row_weights = torch::ones({num_rows});
  policy.advantages = torch::empty({num_rows});
  batch.weights = batch.weights.defined() ? batch.weights.clone() : torch::ones({num_tokens});
  const auto* supervised = batch.supervised.const_data_ptr<int64_t>();
  auto* starts = policy.row_starts.data_ptr<int64_t>();
  int64_t token = 0;
  for (int64_t row = 0; row < num_rows; ++row) {
    const PolicyRow& given = rows[static_cast<size_t>(row)];
    policy.advantages.data_ptr<float>()[row] = given.advantage;
    if (given.has_failed) policy.row_weights.data_ptr<float>()[row] = 0;
    starts[row] = token;
    for (; token < num_tokens && supervised[token] < batch.boundaries[static_cast<size_t>(row) + 1]; ++token) {
      policy.rows.data_ptr<int64_t>()[token] = row;
      if (given.is_left_out || given.has_failed) batch.weights.data_ptr<float>()[token] = 0;
    }
  }
  starts[num_rows] = token;
  batch.policy = policy;
}

}  // namespace dsft
