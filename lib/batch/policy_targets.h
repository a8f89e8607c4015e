#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace dsft {

struct Batch;

/// What a policy update needs of a batch's completions besides their tokens. A row is a document of the batch with a
/// sampled completion; its supervised tokens lie together among the batch's N.
struct PolicyTargets {
  at::Tensor rows;         ///< int64 [N]: each supervised token's row
  at::Tensor row_starts;   ///< int64 [R + 1]: where the rows' supervised tokens begin, and the last end
  at::Tensor row_weights;  ///< fp32 [R]: 1; 0 for what only fills a shape, and for rows that have failed
  at::Tensor advantages;   ///< fp32 [R]
  // fp32 [N] each, of the supervised tokens, or undefined.
  at::Tensor old_log_probs;        ///< by the policy that the ratios are taken to; undefined: the one that is trained
  at::Tensor reference_log_probs;  ///< by the reference policy
  at::Tensor sampling_log_probs;   ///< by the sampler; undefined: as old_log_probs
  at::Tensor entropy_mask;         ///< 1 where the token's entropy is among the update's highest, else 0

  /// [R] tokens of each row before its completion, where a pass is to compute what the sampler did, to the bit
  /// (kernels::place_as_decoded); empty: it need not. On the host.
  std::vector<int64_t> prompt_lengths = {};

  std::vector<at::Tensor*> device_tensors();
  /// Which of the tensors that may be undefined are not, as bits, and one that is always set.
  int64_t members() const;
};

/// A document of a batch as a sampled completion.
struct PolicyRow {
  float advantage = 0;
  bool is_left_out = false;  ///< its tokens weigh 0; it still counts as a row
  bool has_failed = false;   ///< nobody knows what it is worth: its tokens weigh 0, and it is no row
};

/// Gives a batch on the host its policy targets, a row for each document, and the tokens of rows that are left out
/// weight 0.
void set_policy_rows(Batch& batch, const std::vector<PolicyRow>& rows);

}  // namespace dsft
