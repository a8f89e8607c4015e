#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/nearest_name.h"
#include "optim/schedule_config.h"
#include "recipe_config/deepspeed_import.h"
#include "recipe_config/deepspeed_keys.h"

namespace dsft::recipe_config {
namespace {

using config::Entry;
using config::Node;

constexpr const char* kKwargs = "training.lr_scheduler_kwargs.";

/// What a scheduler of DeepSpeed takes.
std::vector<std::string> params_of(std::string_view type) {
  if (type == "OneCycle") {
    return {"cycle_min_lr",
            "cycle_max_lr",
            "decay_lr_rate",
            "cycle_first_step_size",
            "cycle_second_step_size",
            "cycle_first_stair_count",
            "cycle_second_stair_count",
            "decay_step_size",
            "cycle_momentum",
            "cycle_min_mom",
            "cycle_max_mom",
            "decay_mom_rate",
            "last_batch_iteration"};
  }
  std::vector<std::string> names{"warmup_num_steps", "warmup_type", "last_batch_iteration"};
  if (type != "WarmupLR") names.emplace_back("total_num_steps");
  const bool is_cosine = type == "WarmupCosineLR";
  for (const char* name :
       {is_cosine ? "warmup_min_ratio" : "warmup_min_lr", is_cosine ? "cos_min_ratio" : "warmup_max_lr"})
    names.emplace_back(name);
  return names;
}

/// "auto" of these comes from the recipe or the run; DeepSpeed has no other.
bool may_be_auto(std::string_view name) {
  return name == "total_num_steps" || name == "warmup_min_lr" || name == "warmup_max_lr" || name == "warmup_num_steps";
}

/// A rate for each parameter group, all of them equal, as the one that it is.
Node without_groups(const Node& value) {
  const bool is_one = value.is_sequence() && !value.items.empty() &&
                      std::all_of(value.items.begin(), value.items.end(), [&](const Node& item) {
                        return item.is_scalar() && item.text == value.items.front().text;
                      });
  return is_one ? value.items.front() : value;
}

void import_warmup_steps(ImportedBlock& params, const Entry& entry) {
  const auto num_steps = config::to_integer(unquoted(entry.value));
  if (!num_steps || *num_steps < 1) {
    params.fault(entry, concat("needs a whole number of at least 1 or \"auto\", not ", config::describe(entry.value)));
    return;
  }
  if (const Entry* ratio = params.values().find("training.warmup_ratio")) {
    params.fault(entry, concat(value_text(entry.value), " contradicts `training.warmup_ratio` at ",
                               config::to_string(ratio->key_position),
                               ": both say how long the warm-up is; write \"auto\" here, or remove one of them"));
    return;
  }
  params.take(entry.key, "training.warmup_steps");
}

void import_param(ImportedBlock& params, const Entry& entry) {
  if (entry.key == "warmup_num_steps") {
    import_warmup_steps(params, entry);
  } else if (entry.key == "warmup_max_lr") {
    params.values().set("training.learning_rate", entry.key_position, params.path_of(entry.key),
                        unquoted(without_groups(entry.value)));
  } else if (entry.key == "last_batch_iteration") {
    if (config::to_integer(unquoted(entry.value)) != -1)
      params.fault(entry, "is not supported: a run that goes on knows its step; remove it");
  } else if (entry.key == "warmup_type" && entry.value.text != "log" && entry.value.text != "linear") {
    params.warn(entry, concat(value_text(entry.value), " is no warm-up that DeepSpeed knows, and it takes `log`"));
  } else {
    params.values().set(concat(kKwargs, entry.key), entry.key_position, params.path_of(entry.key),
                        unquoted(without_groups(entry.value)));
  }
}

void import_params(ImportedBlock& params, std::string_view type) {
  const std::vector<std::string> known = params_of(type);
  for (const Entry& entry : params.entries()) {
    if (std::find(known.begin(), known.end(), entry.key) == known.end()) {
      const std::string nearest = nearest_name(entry.key, known);
      params.fault(entry, concat(type, " does not take it, and DeepSpeed refuses it",
                                 nearest.empty() ? "" : concat("; did you mean `", nearest, "`?")));
    } else if (is_auto(entry.value) && !may_be_auto(entry.key)) {
      params.fault(entry, "has no \"auto\": write a value, or remove it");
    } else if (!entry.value.is_null() && !is_auto(entry.value)) {
      import_param(params, entry);
    }
  }
}

/// DeepSpeed's defaults that differ from what the recipe gives.
void warn_of_missing(ImportedBlock& block, ImportedBlock& params, const Entry& type) {
  const std::string& name = type.value.text;
  if (!params.find("warmup_num_steps") && !block.values().find("training.warmup_steps") &&
      !block.values().find("training.warmup_ratio")) {
    block.warn(type,
               "warmup_num_steps is missing: the warm-up is the recipe's 3 % of the run, not DeepSpeed's 1000 updates");
  }
  if (name == "WarmupDecayLR" && !params.find("warmup_max_lr") && !block.values().find("training.learning_rate"))
    block.warn(type, "warmup_max_lr is missing: it is the recipe's learning_rate, not DeepSpeed's 0.001");
}

}  // namespace

void import_scheduler(ImportedBlock& top) {
  const Entry* entry = top.find("scheduler");
  if (entry == nullptr) return;
  ImportedBlock block = top.inside(*entry);
  check_deepspeed_keys(block, "scheduler", /*is_strict=*/false);
  const Entry* type = block.find("type");
  if (type == nullptr) {
    if (entry->value.is_map())
      top.no_effect(*entry, "DeepSpeed ignores the block without a `type`; write \"type\": \"WarmupDecayLR\"");
    return;
  }
  const auto known = config::from_word<optim::SchedulerType>(type->value.text);
  const bool is_of_deepspeed =
      known && (optim::is_deepspeed_warmup(*known) || *known == optim::SchedulerType::kOneCycle);
  if (!is_of_deepspeed) {
    block.fault(*type,
                concat(value_text(type->value), type->value.text == "LRRangeTest" ? ", a search for a rate," : "",
                       " is not supported: write WarmupLR, WarmupDecayLR, WarmupCosineLR or OneCycle, or remove the "
                       "block and write training.lr_scheduler_type in the recipe"));
    return;
  }
  block.take("type", "training.lr_scheduler_type");
  const Entry* list = block.find("params");
  const Node none;
  ImportedBlock params = list ? block.inside(*list) : ImportedBlock(none, block.path_of("params"), block.values());
  import_params(params, type->value.text);
  if (optim::is_deepspeed_warmup(*known)) warn_of_missing(block, params, *type);
}

}  // namespace dsft::recipe_config
