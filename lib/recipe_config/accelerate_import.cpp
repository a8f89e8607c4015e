#include "recipe_config/accelerate_import.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/nearest_name.h"
#include "base/parse_number.h"
#include "recipe_config/deepspeed_import.h"
#include "recipe_config/imported_file.h"

namespace dsft::recipe_config {
namespace {

using config::Entry;
using config::Node;

constexpr int64_t kMostProcesses = 1'000'000;
constexpr const char* kOwnHosts = "`dsft launch --hostfile` names the hosts";
constexpr const char* kOwnRanks = "ranks are joined by dsft itself";
constexpr const char* kNoTpu = "there are no TPUs here";

/// A key of the file that changes nothing; `usual` is what `accelerate config` writes where nothing was chosen, which
/// is not worth a word.
struct UnusedKey {
  std::string_view name;
  std::string_view usual;
  std::string_view reason;
};

constexpr UnusedKey kUnused[] = {
    {"debug", "false", "checks of its own are always on"},
    {"machine_rank", "0", kOwnHosts},
    {"num_machines", "1", kOwnHosts},
    {"main_process_ip", "", kOwnHosts},
    {"main_process_port", "", kOwnRanks},
    {"rdzv_backend", "static", kOwnRanks},
    {"same_network", "true", kOwnRanks},
    {"main_training_function", "main", "the recipe says what runs"},
    {"enable_cpu_affinity", "false", "`dsft launch` binds cores"},
    {"downcast_bf16", "no", kNoTpu},
    {"tpu_name", "", kNoTpu},
    {"tpu_zone", "", kNoTpu},
    {"tpu_use_cluster", "false", kNoTpu},
    {"tpu_use_sudo", "false", kNoTpu},
    {"tpu_env", "", kNoTpu},
    {"tpu_vm", "", kNoTpu},
    {"command_file", "", kNoTpu},
    {"commands", "", kNoTpu},
    {"dynamo_config", "", "dsft has kernels of its own and compiles nothing while it runs"},
    {"dynamo_backend", "NO", "dsft has kernels of its own and compiles nothing while it runs"},
    {"mpirun_config", "", "`dsft launch` calls mpirun by itself"},
    {"fsdp_config", "", "distributed_type is not FSDP"},
    {"megatron_lm_config", "", "distributed_type is not MEGATRON_LM"},
};

constexpr std::string_view kRead[] = {
    "compute_environment", "distributed_type",   "mixed_precision", "fp16", "use_cpu", "num_processes", "gpu_ids",
    "deepspeed_config",    "parallelism_config", "fp8_config"};

/// Keys of deepspeed_config that stand for keys of DeepSpeed's own file, and those of the recipe.
struct PluginKey {
  std::string_view name;
  std::string_view path;  ///< "": without effect
};

constexpr PluginKey kPluginKeys[] = {{"gradient_accumulation_steps", "training.gradient_accumulation_steps"},
                                     {"gradient_clipping", "training.max_grad_norm"},
                                     {"zero_stage", "zero.stage"},
                                     {"offload_optimizer_device", "zero.offload_optimizer.device"},
                                     {"offload_param_device", "zero.offload_param.device"},
                                     {"zero3_save_16bit_model", "zero.stage3_gather_16bit_weights_on_model_save"},
                                     {"offload_optimizer_nvme_path", ""},
                                     {"offload_param_nvme_path", ""},
                                     {"zero3_init_flag", ""},
                                     {"deepspeed_config_file", ""},
                                     {"deepspeed_hostfile", ""},
                                     {"deepspeed_multinode_launcher", ""},
                                     {"deepspeed_exclusion_filter", ""},
                                     {"deepspeed_inclusion_filter", ""},
                                     {"deepspeed_moe_layer_cls_names", ""}};

/// The key of a table with this name, or nullptr.
template <typename Key, size_t kSize>
const Key* find_key(const Key (&table)[kSize], std::string_view name) {
  const auto found = std::find_if(std::begin(table), std::end(table), [&](const Key& key) { return key.name == name; });
  return found == std::end(table) ? nullptr : found;
}

bool is_empty(const Node& node) {
  return node.is_null() || (node.is_map() && node.entries.empty()) || (node.is_sequence() && node.items.empty());
}

bool is_usual(const Node& node, std::string_view usual) {
  if (is_empty(node)) return true;
  if (!node.is_scalar()) return false;
  const auto boolean = config::to_bool(node);
  return node.text == usual || (boolean && boolean == config::to_bool(config::make_plain(std::string(usual))));
}

template <typename Known>
std::string explain_unknown(const std::string& key, const Known& names) {
  const std::string nearest = nearest_name(key, names);
  return concat("is unknown to Accelerate, which refuses it",
                nearest.empty() ? "; remove it" : concat("; did you mean `", nearest, "`?"));
}

void check_keys(ImportedBlock& top) {
  std::vector<std::string> names(std::begin(kRead), std::end(kRead));
  for (const UnusedKey& key : kUnused) names.emplace_back(key.name);
  for (const Entry& entry : top.entries()) {
    if (const UnusedKey* unused = find_key(kUnused, entry.key)) {
      if (!is_usual(entry.value, unused->usual)) top.no_effect(entry, unused->reason);
    } else if (std::find(std::begin(kRead), std::end(kRead), entry.key) == std::end(kRead)) {
      top.fault(entry, explain_unknown(entry.key, names));
    }
  }
  for (const char* name : {"parallelism_config", "fp8_config"}) {
    const Entry* entry = top.find(name);
    if (entry && !is_empty(entry->value))
      top.fault(*entry, "is not supported: `zero` shares the work, and 8-bit floats are not built");
  }
}

/// Ways of training that dsft has, by Accelerate's names.
enum class DistributedType { kNo, kMultiGpu, kMultiCpu, kDeepspeed };

constexpr std::pair<std::string_view, DistributedType> kTypes[] = {{"NO", DistributedType::kNo},
                                                                   {"MULTI_GPU", DistributedType::kMultiGpu},
                                                                   {"MULTI_CPU", DistributedType::kMultiCpu},
                                                                   {"DEEPSPEED", DistributedType::kDeepspeed}};

/// The way that the file asks for; none where that is a fault.
std::optional<DistributedType> read_type(ImportedBlock& top, const Node& file) {
  const Entry* place = top.find("compute_environment");
  if (place && place->value.text != "LOCAL_MACHINE") {
    top.fault(*place, concat(value_text(place->value),
                             " is not supported: dsft runs where it is started; write LOCAL_MACHINE"));
    return std::nullopt;
  }
  const Entry* type = top.find("distributed_type");
  if (type == nullptr) {
    top.values().fault(file.position, "distributed_type",
                       "is required by Accelerate: write NO, MULTI_GPU, MULTI_CPU or DEEPSPEED");
    return std::nullopt;
  }
  std::string name = type->value.text;
  if (config::to_bool(type->value) == false) name = "NO";  // YAML 1.1 takes NO for a boolean
  for (const auto& [word, known] : kTypes) {
    if (name == word) return known;
  }
  if (name == "FSDP" || name == "MEGATRON_LM") {
    top.fault(*type,
              concat("`", name, "` is not supported: dsft shards by ZeRO; write DEEPSPEED, with zero_stage 3 for what ",
                     name == "FSDP" ? "FULL_SHARD" : "it", " does"));
  } else {
    top.fault(*type, concat(value_text(type->value),
                            " is not supported: dsft computes on NVIDIA GPUs and CPUs; write NO, "
                            "MULTI_GPU, MULTI_CPU or DEEPSPEED"));
  }
  return std::nullopt;
}

void import_num_processes(ImportedBlock& top, DistributedType type, RunSettings& run) {
  const Entry* entry = top.find("num_processes");
  if (type == DistributedType::kNo) run.num_processes = {1, top.find("distributed_type")->key_position};
  if (entry == nullptr) return;
  const auto number = config::to_integer(unquoted(entry->value));
  if (!number || *number < 1 || *number > kMostProcesses) {
    top.fault(*entry, concat("needs a whole number of at least 1, not ", config::describe(entry->value)));
  } else if (type != DistributedType::kNo) {
    run.num_processes = {*number, entry->key_position};
  } else if (*number > 1) {
    top.no_effect(*entry, "distributed_type NO is one process; write MULTI_GPU or MULTI_CPU for more");
  }
}

/// The numbers in "0,1", each once; none where that is not what stands there.
std::vector<int> parse_gpu_ids(std::string_view text) {
  std::vector<int> numbers;
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(',', begin), text.size());
    std::string_view word = text.substr(begin, end - begin);
    while (word.starts_with(' ')) word.remove_prefix(1);
    while (word.ends_with(' ')) word.remove_suffix(1);
    const auto number = parse_number<int>(word);
    const bool is_new = number && std::find(numbers.begin(), numbers.end(), *number) == numbers.end();
    if (!is_new || *number < 0) return {};
    numbers.push_back(*number);
    begin = end + 1;
  }
  return numbers;
}

void import_gpu_ids(ImportedBlock& top, RunSettings& run) {
  const Entry* entry = top.find("gpu_ids");
  if (entry == nullptr || entry->value.text == "all") return;
  GpuIds gpus{parse_gpu_ids(entry->value.text), entry->key_position};
  if (gpus.numbers.empty()) {
    top.fault(*entry, concat("needs \"all\" or the numbers of GPUs, each once, as in \"0,1\", not ",
                             config::describe(entry->value)));
    return;
  }
  run.gpu_ids = std::move(gpus);
}

void import_precision_word(ImportedBlock& top) {
  const Entry* entry = top.find("mixed_precision");
  std::string word = entry ? entry->value.text : "";
  if (entry == nullptr) {
    entry = top.find("fp16");  // the old form
    if (entry == nullptr) return;
    word = is_true(entry->value) ? "fp16" : "no";
  }
  if (config::to_bool(entry->value) == false) word = "no";
  ImportedValues& values = top.values();
  if (word == "bf16" || word == "fp16") {
    values.set("model.dtype", entry->key_position, entry->key, config::make_string(word));
  } else if (word != "no") {
    top.fault(*entry, concat(value_text(entry->value), " is not supported: write \"no\", fp16 or bf16"));
  } else if (!values.find("training.bf16") && !values.find("training.fp16")) {
    values.fill("model.dtype", entry->key_position, config::make_string("fp32"));
  }
}

void import_plugin(ImportedBlock& plugin, const config::Position& position) {
  std::vector<std::string> names;
  for (const PluginKey& key : kPluginKeys) names.emplace_back(key.name);
  for (const Entry& entry : plugin.entries()) {
    const PluginKey* key = find_key(kPluginKeys, entry.key);
    if (key == nullptr) {
      plugin.fault(entry, explain_unknown(entry.key, names));
    } else if (entry.key.ends_with("_device") && !entry.value.is_null()) {
      import_offload_device(plugin, entry, std::string(key->path));
    } else if (!key->path.empty()) {
      plugin.take(entry.key, std::string(key->path));
    } else if (!is_usual(entry.value, "none") && entry.key != "zero3_init_flag") {
      plugin.no_effect(entry, entry.key.starts_with("deepspeed_") ? kOwnHosts : "nothing is swapped to a disk");
    }
  }
  plugin.values().fill("zero.stage", position, config::make_plain("2"));  // Accelerate's default
}

void import_plugin_file(ImportedBlock& plugin, const Entry& file, RunSettings& run,
                        std::vector<config::Fault>& faults) {
  for (const Entry& entry : plugin.entries()) {
    const PluginKey* key = find_key(kPluginKeys, entry.key);
    const bool is_of_file = key && (!key->path.empty() || entry.key.ends_with("nvme_path"));
    if (is_of_file)
      plugin.fault(entry,
                   "stands beside deepspeed_config_file, which Accelerate refuses: write it into that file alone");
    if (key == nullptr) plugin.fault(entry, "is unknown to Accelerate, which refuses it; remove it");
  }
  const auto root =
      read_imported_file(file.value.text, file.key_position, plugin.path_of(file.key), /*is_json=*/true, faults);
  if (root) import_deepspeed(*root, plugin.values(), run);
}

/// The block deepspeed_config: DeepSpeed's settings, or the file that holds them.
void import_settings(ImportedBlock& top, bool is_deepspeed, RunSettings& run, std::vector<config::Fault>& faults) {
  const Entry* settings = top.find("deepspeed_config");
  if (!is_deepspeed) {
    if (settings && !is_empty(settings->value)) top.no_effect(*settings, "distributed_type is not DEEPSPEED");
    return;
  }
  if (settings == nullptr) settings = top.find("distributed_type");
  const bool is_block = settings->key == "deepspeed_config";
  const Node none;
  ImportedBlock plugin = is_block ? top.inside(*settings) : ImportedBlock(none, "deepspeed_config", top.values());
  const Entry* named = plugin.find("deepspeed_config_file");
  if (named && named->value.text != "none") {
    import_plugin_file(plugin, *named, run, faults);
  } else {
    import_plugin(plugin, settings->key_position);
  }
}

}  // namespace

void import_accelerate(const Node& file, ImportedValues& values, RunSettings& run, std::vector<config::Fault>& faults) {
  ImportedBlock top(file, "", values);
  const std::optional<DistributedType> type = read_type(top, file);
  if (!type) return;
  check_keys(top);
  if (type == DistributedType::kMultiCpu)
    values.set("device", top.find("distributed_type")->key_position, "distributed_type", config::make_string("cpu"));
  if (const Entry* cpu = top.find("use_cpu"); cpu && is_true(cpu->value))
    values.set("device", cpu->key_position, "use_cpu", config::make_string("cpu"));
  import_num_processes(top, *type, run);
  import_gpu_ids(top, run);
  import_settings(top, type == DistributedType::kDeepspeed, run, faults);
  import_precision_word(top);
}

}  // namespace dsft::recipe_config
