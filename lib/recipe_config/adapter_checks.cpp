#include "recipe_config/adapter_checks.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "config/fields.h"
#include "config/yaml_writer.h"
#include "spec/adapter_settings.h"
#include "spec/lora_targets.h"

namespace dsft::recipe_config {
namespace {

/// What an adapter does not decide: where it lies, and how one would start that has no weights yet.
constexpr auto kNotTheAdapters = std::to_array<std::string_view>({"adapter", "init_lora_weights", "task_type"});

bool choose_the_same(const lora::LoraConfig& a, const lora::LoraConfig& b, const spec::ModelSpec& spec) {
  const auto is_same = [](const spec::LoraTarget& x, const spec::LoraTarget& y) {
    return x.module == y.module && x.r == y.r && x.scale == y.scale;
  };
  try {
    const auto targets = spec::match_lora_targets(spec, a), others = spec::match_lora_targets(spec, b);
    return std::equal(targets.begin(), targets.end(), others.begin(), others.end(), is_same) &&
           spec::match_modules_to_save(spec, a) == spec::match_modules_to_save(spec, b) && a.bias == b.bias &&
           a.lora_dropout == b.lora_dropout;
  } catch (const Error&) {
    return false;  // the written value fits no module of this model
  }
}

}  // namespace

std::vector<config::Fault> check_adapter_keys(const RecipeConfig& config, const config::Written& written,
                                              const lora::LoraConfig& adapter, const spec::ModelSpec& spec) {
  lora::LoraConfig recipe = *config.lora;
  config::Fields fields;
  describe_fields(fields, recipe);
  std::vector<config::Fault> faults, warnings;
  config::Section section("lora.", written, faults, warnings);
  for (const config::Field& field : fields.list()) {
    const bool is_adapters =
        std::find(kNotTheAdapters.begin(), kNotTheAdapters.end(), field.name) == kNotTheAdapters.end();
    if (field.role != config::Field::Role::kValue || !is_adapters || !section.is_written(field.name)) continue;
    lora::LoraConfig changed = adapter;  // the adapter with this one key as the recipe writes it
    config::Fields of_changed;
    describe_fields(of_changed, changed);
    const config::Field& same = *of_changed.find(field.name);
    const std::string said = config::write_json(same.write());
    config::Problems problems;
    same.read(field.write(), problems);
    if (said == config::write_json(same.write()) || choose_the_same(adapter, changed, spec)) continue;
    section.fault(field.name,
                  concat("contradicts the adapter of lora.adapter (", *config.lora->adapter, "), whose ", field.name,
                         " is ", said, " and stays in force; leave the key out or write that value"));
  }
  if (config.recipe == RecipeKind::kGrpo && config.grpo->disable_dropout && adapter.lora_dropout > 0)
    config::Section("", written, faults, warnings)
        .fault("grpo.disable_dropout",
               concat("contradicts the adapter of lora.adapter (", *config.lora->adapter, "), whose lora_dropout is ",
                      adapter.lora_dropout,
                      " and stays in force; leave disable_dropout out, or write 0 in its adapter_config.json"));
  return faults;
}

void adopt_adapter(RecipeConfig& config) {
  if (!config.lora || !config.lora->adapter) return;
  std::string directory = *config.lora->adapter;
  config.lora = spec::read_adapter_settings(directory).lora;
  config.lora->adapter = std::move(directory);
}

}  // namespace dsft::recipe_config
