#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "base/logger.h"
#include "data/data_config.h"
#include "data/epoch_plan.h"
#include "data/example_builder.h"
#include "data/example_store.h"
#include "data/token_cache.h"

namespace dsft::data {

/// Today as YYYY-MM-DD, local time.
std::string local_date();

/// Where data comes from and goes to while it is prepared.
struct PrepareOptions {
  spec::TextFolders folders;              ///< tokenizer, chat template, stop tokens
  std::filesystem::path cache_directory;  ///< empty: default_cache_directory()
  uint64_t seed = 42;                     ///< of the run; decides the split by eval_fraction
  std::string date = local_date();        ///< which a template with strftime_now writes; equal on all ranks
};

/// One split, ready: its rows over all files, in file order.
class Dataset final : public ExampleStore {
 public:
  /// Some rows of a cache file.
  struct Part {
    std::shared_ptr<const TokenCache> cache;
    std::vector<int64_t> rows;  ///< rows of the cache, ascending
    std::string path;           ///< the data file
    double weight = 1.0;
  };

  explicit Dataset(std::vector<Part> parts);

  int64_t size() const override { return begins_.back(); }
  int64_t length(int64_t row) const override;
  int64_t num_supervised(int64_t row) const override;
  Example read(int64_t row) const override;

  /// "train.jsonl:12", or "train.json: row 12".
  std::string describe_row(int64_t row) const;

  /// First row of each file and its weight, for EpochPlanOptions.
  std::vector<int64_t> file_begins() const { return {begins_.begin(), begins_.end() - 1}; }
  std::vector<double> file_weights() const;

  /// What the tokens of each file are: a run that goes on elsewhere, or with another build, must find the same.
  std::vector<CacheKey> contents() const;

 private:
  struct Place {
    const Part* part;
    int64_t row;
  };
  Place locate(int64_t row) const;

  std::vector<Part> parts_;
  std::vector<int64_t> begins_;  // [files + 1]
};

/// The data of a recipe.
struct PreparedData {
  std::shared_ptr<const Dataset> train;
  std::shared_ptr<const Dataset> eval;  ///< of data.eval and the share eval_fraction of the training rows; may be empty
  RowCounts train_counts;               ///< of the files of data.train, before eval_fraction takes its share
  RowCounts eval_counts;                ///< of the files of data.eval
};

/// Tokenises every file that the cache does not hold yet, with data.num_workers threads, and opens the cache. What was
/// made from the same file contents, tokenizer, template and settings is reused; a damaged cache file is made again.
/// Safe to call from several processes at once, but then each would do the work: with ranks, rank 0 (of each host)
/// calls it, then a barrier, then the others call it and find the cache. Throws kData for the first bad row (with file
/// and line) and where all rows of a file list are dropped; kCheckpoint for a bad tokenizer or template.
PreparedData prepare_data(const DataConfig& config, const PrepareOptions& options, const Logger& logger);

/// Whether eval_fraction holds this row out; a function of (seed, file, row).
bool is_held_out(uint64_t seed, uint64_t file, int64_t row_number, double fraction);

/// The plan of a training split: weights and file starts taken from the data set, the rest from the recipe.
EpochPlanOptions make_plan_options(const DataConfig& config, const Dataset& dataset, uint64_t seed);

}  // namespace dsft::data
