#pragma once

#include <cstdint>
#include <vector>

#include "data/example_store.h"

namespace dsft::data {

/// One thing that a micro-batch counts: a row, or a bin of several (packing). `samples[i]` is the row's index in the
/// epoch's order (the key of its random numbers), `rows[i]` its row in the store.
struct Item {
  std::vector<int64_t> rows;
  std::vector<int64_t> samples;
  bool operator==(const Item&) const = default;
};

/// How the items of an epoch are made.
struct EpochPlanOptions {
  uint64_t seed = 42;
  bool shuffle = true;
  bool packing = true;
  int64_t max_length = 2048;  ///< capacity of a bin; a longer row (there is none after max_length) has a bin to itself
  int64_t packing_window = 1024;  ///< bins that are open at the same time; the oldest leaves when one more opens
  std::vector<int64_t> file_begins = {};  ///< first row of each file, for weights; empty: one file
  std::vector<double> file_weights = {};  ///< w_i per file; empty: all 1
};

/// The rows of an epoch in their order: round(w_i * n_i) rows of each file, whole passes plus a remainder without
/// replacement, shuffled together. A pure function of (options, num_rows, epoch).
std::vector<int64_t> epoch_order(int64_t num_rows, const EpochPlanOptions& options, int64_t epoch);

/// Best-fit packing of documents in their order: each goes to the open bin with the least room that still takes it (the
/// oldest of equals), else opens one. Gives, per bin in the order of opening, the indices into `lengths`.
std::vector<std::vector<int64_t>> pack_best_fit(const std::vector<int64_t>& lengths, int64_t capacity, int64_t window);

/// The items of one epoch, in order; a pure function of (options, lengths, epoch), equal on all ranks (numerics.md,
/// "Order of samples"). Throws kData where no row is left.
std::vector<Item> plan_epoch(const ExampleStore& store, const EpochPlanOptions& options, int64_t epoch);

/// Updates in `num_epochs` epochs at `items_per_update` items each, the last of an epoch perhaps with fewer. A rest of
/// an epoch is rounded up as transformers does. With packing each epoch has its own number of bins. Throws kUsage for
/// more than optim::kMostUpdates.
int64_t count_updates(const ExampleStore& store, const EpochPlanOptions& options, double num_epochs,
                      int64_t items_per_update);

}  // namespace dsft::data
