#include "recipe_config/deepspeed_import.h"

#include <algorithm>
#include <cctype>
#include <vector>

#include "base/error.h"
#include "base/nearest_name.h"
#include "recipe_config/deepspeed_keys.h"

namespace dsft::recipe_config {
namespace {

using config::Entry;
using config::Node;

constexpr int64_t kMostRowsOfUpdate = 1'000'000'000;

void import_batch(ImportedBlock& top, RunSettings& run) {
  top.take("train_micro_batch_size_per_gpu", "training.per_device_train_batch_size");
  top.take("gradient_accumulation_steps", "training.gradient_accumulation_steps");
  const Entry* rows = top.find("train_batch_size");
  if (rows == nullptr || is_auto(rows->value)) return;
  const auto num_rows = config::to_integer(unquoted(rows->value));
  if (!num_rows || *num_rows < 1 || *num_rows > kMostRowsOfUpdate) {
    top.fault(*rows, concat("needs a whole number between 1 and ", kMostRowsOfUpdate, " or \"auto\", not ",
                            config::describe(rows->value)));
    return;
  }
  run.train_batch_size = {.num_rows = *num_rows, .position = rows->key_position};
}

void check_reduction(ImportedBlock& top) {
  const Entry* operation = top.find("gradient_allreduce_op");
  if (operation && operation->value.text != "mean") {
    top.fault(*operation, concat(value_text(operation->value),
                                 " is not supported: the loss is the mean over all ranks; write \"mean\""));
  }
  const Entry* size = top.find("sequence_parallel_size");
  if (size && config::to_integer(unquoted(size->value)) != 1)
    top.fault(*size, "is not supported: sequences are not cut over ranks; write 1");
}

/// A key without effect whose value DeepSpeed checks all the same, in any case.
void check_word(ImportedBlock& block, const char* name, const std::vector<std::string>& words) {
  const Entry* entry = block.find(name);
  if (entry == nullptr) return;
  std::string word = entry->value.text;
  std::transform(word.begin(), word.end(), word.begin(), [](unsigned char c) { return std::tolower(c); });
  if (!entry->value.is_scalar() || std::find(words.begin(), words.end(), word) == words.end())
    block.fault(*entry, concat("needs ", join_words(words, " or "), ", not ", config::describe(entry->value)));
}

void check_unused_words(ImportedBlock& top) {
  for (const char* name : {"communication_data_type", "seq_parallel_communication_data_type"})
    check_word(top, name, {"fp16", "bf16", "fp32"});
  const Entry* checkpoint = top.find("checkpoint");
  if (checkpoint == nullptr) return;
  ImportedBlock block = top.inside(*checkpoint);
  check_word(block, "tag_validation", {"warn", "ignore", "fail"});
}

}  // namespace

void import_deepspeed(const Node& file, ImportedValues& values, RunSettings& run) {
  ImportedBlock top(file, "", values);
  check_deepspeed_keys(top, "", /*is_strict=*/false);
  import_batch(top, run);
  check_reduction(top);
  check_unused_words(top);
  top.take("gradient_clipping", "training.max_grad_norm");
  import_precision(top);
  import_zero(top, run);
  import_optimizer(top);
  import_scheduler(top);
}

}  // namespace dsft::recipe_config
