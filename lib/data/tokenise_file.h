#pragma once

#include <filesystem>
#include <memory>

#include "base/logger.h"
#include "data/data_config.h"
#include "data/example_builder.h"
#include "data/token_cache.h"

namespace dsft::data {

/// The settings that decide what becomes of a row.
struct TokeniseOptions {
  int64_t max_length = 2048;
  Overlong overlong = Overlong::kTruncate;
  UnsupervisedRows unsupervised_rows = UnsupervisedRows::kDrop;
  LossOn loss_on = LossOn::kAuto;
  text::Json template_kwargs = text::Json::object();
  int num_workers = 1;
};

/// Why a row is not kept.
enum class RowFate { kKept, kUnsupervised, kOverlong, kUnsupervisedAfterTruncation };

/// Cuts a row to max_length and decides about it; counts it in `counts`. Throws kData where the settings make it an
/// error.
RowFate settle_row(Example& example, const TokeniseOptions& options, RowCounts& counts);

/// Tokenises a data file into a writer, rows in file order whatever the number of threads; the first bad row (in file
/// order) is thrown. Returns the counts.
RowCounts tokenise_file(const std::filesystem::path& path, const TextAssets& assets, const TokeniseOptions& options,
                        TokenCacheWriter& writer, const Logger& logger);

}  // namespace dsft::data
