#pragma once

#include <cstdint>
#include <vector>

#include "data/example.h"

namespace dsft::data {

/// Rows tokenised, cut to max_length and free of unsupervised ones: random access, mapped from the cache file. Made by data::prepare_dataset (dataset.h).
/// This is the interface that the planner and the batch source need of it.
class ExampleStore {
 public:
  virtual ~ExampleStore() = default;
  virtual int64_t size() const = 0;
  virtual int64_t length(int64_t row) const = 0;          ///< tokens of a row
  virtual int64_t num_supervised(int64_t row) const = 0;  ///< supervised tokens of a row
  virtual Example read(int64_t row) const = 0;
};

/// One thing that a micro-batch counts: a row, or a bin of several (packing). `samples[i]` is the row's index in the epoch's order (the key of its
/// random numbers), `rows[i]` its row in the store.
struct Item {
  std::vector<int64_t> rows;
  std::vector<int64_t> samples;
};

/// How the items of an epoch are made.
struct EpochPlanOptions {
  uint64_t seed = 42;
  bool shuffle = true;
  bool packing = true;
  int64_t max_length = 2048;       ///< capacity of a bin
  int64_t packing_window = 1024;   ///< open bins and rows looked at for best fit
  std::vector<int64_t> file_begins;      ///< first row of each file, for weights
  std::vector<double> file_weights;      ///< w_i per file; empty: all 1
};

/// The items of one epoch, in order; a pure function of (options, lengths, epoch), equal on all ranks (numerics.md, "Order of samples").
std::vector<Item> plan_epoch(const ExampleStore& store, const EpochPlanOptions& options, int64_t epoch);

}  // namespace dsft::data
