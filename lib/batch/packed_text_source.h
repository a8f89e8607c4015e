#pragma once

#include <cstdint>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "batch/batch.h"
#include "data/epoch_plan.h"
#include "data/example_store.h"

namespace dsft {

/// How an update takes items, and which part of it is this rank's.
struct StepShape {
  int64_t items_per_micro_batch = 1;  ///< B: per_device_train_batch_size
  int64_t micro_batches = 1;          ///< gradient_accumulation_steps
  int64_t rank = 0;
  int64_t num_ranks = 1;
  int64_t num_epochs = 1;  ///< the source ends after so many; the number of whole or begun epochs
};

/// Items [begin, end) of an update of `num_items` that one rank takes: contiguous, at most one more than any other
/// rank's, lower ranks first.
struct ItemRange {
  int64_t begin = 0;
  int64_t end = 0;
};
ItemRange rank_share(int64_t num_items, int64_t rank, int64_t num_ranks);

/// Tokenised rows as a StepSource (numerics.md, "Order of samples"): an update takes the next B * accumulation * ranks
/// items of the epoch's plan (fewer at the epoch's end, which no update crosses), split contiguously by rank and then
/// by micro-batch. A rank without an item for a micro-batch gets a batch of one token without a label, so that all
/// ranks make the same calls. The next update is read, into pinned memory where a GPU computes, in a background
/// thread while the current one is computed. Not thread-safe.
class PackedTextSource final : public StepSource {
 public:
  /// `device`: the one that the batches are for; they are on the host.
  PackedTextSource(std::shared_ptr<const data::ExampleStore> store, data::EpochPlanOptions plan, StepShape shape,
                   at::Device device = at::kCPU);
  ~PackedTextSource() override;

  std::optional<std::vector<Batch>> next_step() override;
  SourcePosition position() const override { return position_; }
  /// Throws kCheckpoint for a position that this data set does not have.
  void restore(const SourcePosition& position, int64_t num_updates) override;
  Batch largest_micro_batch() override;
  int64_t items_per_micro_batch() const override { return shape_.items_per_micro_batch; }
  std::optional<int64_t> halve_micro_batches() override;
  int64_t steps_per_epoch() const override;
  double epoch_progress() const override;

 private:
  struct Step {
    std::vector<Batch> batches;
    SourcePosition next;         ///< position after this step
    int64_t items_of_epoch = 0;  ///< of the epoch that it belongs to
  };
  struct Epoch {
    int64_t number = -1;
    std::vector<data::Item> items;
  };

  const Epoch& plan_of(int64_t epoch);
  int64_t num_updates(int64_t num_items) const;
  std::optional<Step> read_step(SourcePosition from);
  Batch read_batch(int64_t epoch, std::span<const data::Item> items) const;
  std::vector<Batch> read_batches(const Epoch& epoch, int64_t first_item, int64_t num_items) const;
  void prefetch();
  void drop_prefetched();

  std::shared_ptr<const data::ExampleStore> store_;
  data::EpochPlanOptions plan_;
  StepShape shape_;
  int64_t items_per_update_;
  at::Device device_;
  int64_t items_of_first_epoch_ = 0;
  int64_t items_of_epoch_ = 0;  // of the epoch that position_ is in, or of the one just finished
  Epoch epoch_;                 // used by whoever reads a step: this thread, or the one behind prefetched_, never both
  SourcePosition position_;
  std::future<std::optional<Step>> prefetched_;
};

}  // namespace dsft
