#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "config/words.h"

namespace dsft::config {
class Fields;
class Section;
}  // namespace dsft::config

namespace dsft::data {

/// One file of rows. With a weight w, an epoch takes w times its rows.
struct DataFile {
  std::string path;
  double weight = 1.0;
  bool operator==(const DataFile&) const = default;
};

/// What happens to a row longer than max_length.
enum class Overlong { kTruncate, kDrop, kError };

constexpr auto words_of(Overlong) {
  return std::to_array<config::Word<Overlong>>(
      {{"truncate", Overlong::kTruncate}, {"drop", Overlong::kDrop}, {"error", Overlong::kError}});
}

/// Which tokens are supervised. kAuto: messages -> assistant, prompt/completion -> completion, text -> all.
enum class LossOn { kAuto, kAssistant, kCompletion, kAll };

constexpr auto words_of(LossOn) {
  return std::to_array<config::Word<LossOn>>({{"auto", LossOn::kAuto},
                                              {"assistant", LossOn::kAssistant},
                                              {"completion", LossOn::kCompletion},
                                              {"all", LossOn::kAll}});
}

/// What happens to a row without a supervised token (kDrop counts and says them; all dropped is an error).
enum class UnsupervisedRows { kDrop, kError };

constexpr auto words_of(UnsupervisedRows) {
  return std::to_array<config::Word<UnsupervisedRows>>(
      {{"drop", UnsupervisedRows::kDrop}, {"error", UnsupervisedRows::kError}});
}

/// Most threads that are started for data.num_workers.
inline constexpr int64_t kMostWorkers = 1024;

/// The recipe's section `data`.
struct DataConfig {
  std::vector<DataFile> train;
  std::vector<DataFile> eval;
  double eval_fraction = 0.0;  ///< share of the training rows held out, by hash of (seed, row)
  int64_t max_length = 2048;   ///< tokens
  Overlong overlong = Overlong::kTruncate;
  bool packing = true;
  LossOn loss_on = LossOn::kAuto;
  UnsupervisedRows unsupervised_rows = UnsupervisedRows::kDrop;
  std::optional<std::string> chat_template;  ///< file; none: the checkpoint's own
  std::string chat_template_kwargs = "{}";   ///< a JSON object, in the order written
  bool shuffle = true;
  std::optional<int64_t> num_workers;  ///< threads; none: all cores
};

void describe_fields(config::Fields& fields, DataConfig& config);
/// Contradictions inside the section, file kinds that are not read yet.
void validate(const DataConfig& config, config::Section& section);

}  // namespace dsft::data
