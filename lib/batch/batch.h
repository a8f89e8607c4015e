#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "batch/policy_targets.h"

namespace dsft {

/// A micro-batch: S documents laid end to end as T tokens, without padding. Made on the host; to() moves what the model
/// reads.
struct Batch {
  at::Tensor ids;        ///< int64 [T]
  at::Tensor positions;  ///< int64 [P, T]: position inside the document (P = 1; 3 for multimodal rotary)
  at::Tensor labels;  ///< int64 [T]: the token itself where it is supervised (predicted from the token before it), else
                      ///< -100; a document's first is -100
  at::Tensor supervised;  ///< int64 [N]: the positions in `labels` that are not -100, made on the host, where no
                          ///< device has to be asked for their number
  at::Tensor weights;  ///< fp32 [N]: how much each supervised token counts, in the loss and in the metrics; undefined:
                       ///< all count once
  at::Tensor samples;  ///< int64 [S]: each document's index in the epoch's order; stays on the host
  at::Tensor sample_keys;  ///< int64 [T]: sample_key of each token's epoch and sample, the key of its random numbers
  std::vector<int64_t> boundaries;  ///< [S + 1] starts of the documents, then T; stays on the host
  at::Tensor starts;                ///< int32 [S + 1]: the boundaries where a device reads them
  int64_t longest = 0;              ///< tokens of the longest document, or more
  int64_t epoch = 0;
  std::optional<PolicyTargets> policy;  ///< of sampled completions that a policy is trained on
  bool is_stand_in = false;             ///< of a rank that has no item: its token counts for nothing

  int64_t num_tokens() const { return boundaries.empty() ? 0 : boundaries.back(); }
  int64_t num_documents() const { return static_cast<int64_t>(boundaries.size()) - 1; }

  /// What a device computes from; some may be undefined.
  std::vector<at::Tensor*> device_tensors();

  /// The same batch with these on `device`. The host does not wait for the copies.
  Batch to(at::Device device) const;

  /// The same batch with these in memory that to(device) copies from as it is: pinned for a GPU, else shared.
  Batch pinned_for(at::Device device) const;
};

/// Where a source stands: the next item of an epoch. Independent of the rank count.
struct SourcePosition {
  int64_t epoch = 0;
  int64_t item = 0;
  bool operator==(const SourcePosition&) const = default;
};

/// Gives each rank its micro-batches of one optimizer step after another. All ranks get the same number of
/// micro-batches, and the end at the same step.
class StepSource {
 public:
  virtual ~StepSource() = default;

  /// The micro-batches of the next update on this rank; nullopt at the end of the data (on all ranks together).
  virtual std::optional<std::vector<Batch>> next_step() = 0;

  /// Position after the last step that next_step() gave.
  virtual SourcePosition position() const = 0;
  /// Goes on behind a position where the run had made `num_updates` updates.
  virtual void restore(const SourcePosition& position, int64_t num_updates) = 0;

  /// What the next updates take and position() does not tell, in files of a checkpoint's folder: nothing, but of a
  /// source that computes. load_state() comes after restore(). Throws kCheckpoint. Collective: saving fails on all
  /// ranks or on none.
  virtual void save_state(const std::filesystem::path& folder) const;
  virtual void load_state(const std::filesystem::path& folder);

  /// The largest micro-batch of the epoch that the source stands in, on any rank. Not of a source that computes.
  virtual Batch largest_micro_batch();

  /// Items of a micro-batch, but for the last of an update: rows or bins.
  virtual int64_t items_per_micro_batch() const = 0;

  /// From now on a micro-batch has half as many items, rounded up, and an update as many as before. Returns their
  /// number; nullopt where it is one already.
  virtual std::optional<int64_t> halve_micro_batches() = 0;

  /// Updates in one epoch (the first), and, as a fraction of epochs, where the source stands after the last step given.
  virtual int64_t steps_per_epoch() const = 0;
  virtual double epoch_progress() const = 0;

  /// Whether next_step() computes what it gives (samples it) rather than reads it: that is no wait for data.
  virtual bool computes() const { return false; }
  /// What is reported with the updates whose batches were given last, by name; the same on all ranks.
  virtual std::map<std::string, double> metrics() const { return {}; }
  /// Why next_step() ended before the data did, on all ranks together: the run is saved, and ends as kData.
  virtual std::optional<std::string> fault() const { return std::nullopt; }
  /// Whether next_step() gave up, on all ranks together, because the process of some rank was asked to stop.
  virtual bool is_cut() const { return false; }
};

/// Builds a batch from documents (ids and labels of each), their samples and the epoch.
struct Document {
  std::vector<int32_t> ids;
  std::vector<int32_t> labels;
  int64_t sample = 0;
};
Batch make_batch(const std::vector<Document>& documents, int64_t epoch);

}  // namespace dsft
