#include "base/error.h"
#include "recipe_config/deepspeed_import.h"
#include "recipe_config/deepspeed_keys.h"

namespace dsft::recipe_config {
namespace {

using config::Entry;

/// fp16 or bf16 of a file: its block and what it says of `enabled`.
struct Precision {
  const char* dtype;
  const Entry* block = nullptr;
  const Entry* enabled = nullptr;  ///< absent where it is "auto" too
  bool is_on() const { return enabled && is_true(enabled->value); }
  bool is_off() const { return enabled && !is_true(enabled->value); }
};

Precision read_precision(ImportedBlock& top, const char* dtype, const char* key) {
  Precision precision{dtype};
  precision.block = top.find(key);
  if (precision.block == nullptr) return precision;
  ImportedBlock block = top.inside(*precision.block);
  check_deepspeed_keys(block, dtype, /*is_strict=*/true);
  const Entry* enabled = block.find("enabled");
  if (enabled == nullptr || is_auto(enabled->value)) return precision;
  if (config::to_bool(unquoted(enabled->value))) {
    precision.enabled = enabled;
  } else {
    block.fault(*enabled, concat("needs true, false or \"auto\", not ", config::describe(enabled->value)));
  }
  return precision;
}

/// Where the recipe writes that this is its type, or nullptr.
const Entry* find_written(ImportedValues& values, const std::string& dtype) {
  const Entry* model = values.find("model.dtype");
  if (model && model->value.text == dtype) return model;
  const Entry* flag = values.find("training." + dtype);
  return flag && is_true(flag->value) ? flag : nullptr;
}

bool has_written_dtype(ImportedValues& values) {
  return values.find("model.dtype") || values.find("training.bf16") || values.find("training.fp16");
}

void import_scaler(ImportedBlock& top, const Entry& fp16) {
  if (!fp16.value.is_map()) return;
  ImportedBlock block = top.inside(fp16);
  for (const char* key : {"loss_scale", "initial_scale_power", "loss_scale_window", "hysteresis",
                          "consecutive_hysteresis", "min_loss_scale"}) {
    block.take(key, concat("training.loss_scaler.", key));
  }
}

}  // namespace

void import_precision(ImportedBlock& top) {
  ImportedValues& values = top.values();
  const Entry* old_name = top.find("bfloat16");
  if (old_name)
    top.warn(*old_name, top.find("bf16") ? "has no effect: `bf16` stands beside it" : "is the old name of `bf16`");
  const Precision bf16 = read_precision(top, "bf16", old_name && !top.find("bf16") ? "bfloat16" : "bf16");
  const Precision fp16 = read_precision(top, "fp16", "fp16");
  if (bf16.is_on() && fp16.is_on()) {
    values.fault(fp16.enabled->key_position, "fp16.enabled",
                 concat("contradicts `bf16.enabled` at ", config::to_string(bf16.enabled->key_position),
                        ": a model has one type; DeepSpeed refuses both"));
    return;
  }
  for (const Precision& precision : {bf16, fp16}) {
    const Entry* written = find_written(values, precision.dtype);
    if (precision.is_off() && written) {
      values.fault(precision.enabled->key_position, concat(precision.block->key, ".enabled"),
                   concat("`false` contradicts `model.dtype: ", precision.dtype, "`, which the recipe writes at ",
                          config::to_string(written->key_position), "; write \"auto\" here, or remove one of them"));
    } else if (const Entry* flag = values.find(concat("training.", precision.dtype));
               precision.is_on() && flag && !is_true(flag->value)) {
      values.fault(precision.enabled->key_position, concat(precision.block->key, ".enabled"),
                   concat("`true` contradicts `training.", precision.dtype, ": false` at ",
                          config::to_string(flag->key_position), "; write \"auto\" here, or remove one of them"));
    } else if (precision.is_on()) {
      values.set("model.dtype", precision.enabled->key_position, concat(precision.block->key, ".enabled"),
                 config::make_string(precision.dtype));
    }
  }
  // one that is off and none that is on ask for fp32, in DeepSpeed and in its integration into transformers; the
  // recipe's own default would be bf16 on a GPU
  const Precision& off = bf16.is_off() ? bf16 : fp16;
  if (off.is_off() && !bf16.is_on() && !fp16.is_on() && !has_written_dtype(values))
    values.fill("model.dtype", off.enabled->key_position, config::make_string("fp32"));
  if (fp16.block && !fp16.is_off()) import_scaler(top, *fp16.block);
}

}  // namespace dsft::recipe_config
