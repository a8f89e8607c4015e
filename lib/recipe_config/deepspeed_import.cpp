#include "recipe_config/deepspeed_import.h"

#include <cmath>

#include "base/error.h"
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

}  // namespace

void import_deepspeed(const Node& file, ImportedValues& values, RunSettings& run) {
  ImportedBlock top(file, "", values);
  check_deepspeed_keys(top, "", /*is_strict=*/false);
  import_batch(top, run);
  check_reduction(top);
  top.take("gradient_clipping", "training.max_grad_norm");
  import_precision(top);
  import_zero(top, run);
  import_optimizer(top);
  import_scheduler(top);
}

}  // namespace dsft::recipe_config
