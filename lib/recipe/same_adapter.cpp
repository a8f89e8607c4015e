#include "recipe/same_adapter.h"

#include <map>
#include <vector>

#include "base/error.h"
#include "config/words.h"
#include "spec/lora_targets.h"

namespace dsft::recipe {
namespace {

/// Collects "key (saved 8, recipe 16)".
class Differences {
 public:
  template <typename Value>
  void compare(const char* key, const Value& saved, const Value& trained) {
    if (saved != trained) text_ += concat("\n  lora.", key, ": saved with ", saved, ", the recipe has ", trained);
  }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

std::string join(const std::vector<std::string>& words) {
  std::string text = "[";
  for (const std::string& word : words) text += (text.size() > 1 ? ", " : "") + word;
  return text + "]";
}

// Last parts of the adapted modules' names with their number: "q_proj (30), v_proj (30)".
std::string describe_targets(const std::vector<spec::LoraTarget>& targets) {
  std::map<std::string, int> counts;
  for (const spec::LoraTarget& target : targets) ++counts[target.module.substr(target.module.rfind('.') + 1)];
  std::vector<std::string> words;
  for (const auto& [name, count] : counts) words.push_back(concat(name, " (", count, ")"));
  return join(words);
}

// Ranks and scales of the modules, where patterns or use_rslora make them.
std::map<std::string, std::pair<int64_t, double>> shapes_of(const std::vector<spec::LoraTarget>& targets) {
  std::map<std::string, std::pair<int64_t, double>> shapes;
  for (const spec::LoraTarget& target : targets) shapes[target.module] = {target.r, target.scale};
  return shapes;
}

}  // namespace

void require_same_adapter(const spec::AdapterSettings& saved, const spec::AdapterSettings& trained,
                          const spec::ModelSpec& spec, const std::filesystem::path& checkpoint) {
  const auto saved_targets = spec::match_lora_targets(spec, saved.lora);
  const auto trained_targets = spec::match_lora_targets(spec, trained.lora);
  Differences differences;
  differences.compare("r", saved.lora.r, trained.lora.r);
  differences.compare("lora_alpha", saved.lora.lora_alpha, trained.lora.lora_alpha);
  differences.compare("use_rslora", saved.lora.use_rslora, trained.lora.use_rslora);
  differences.compare("bias", config::to_word(saved.lora.bias), config::to_word(trained.lora.bias));
  differences.compare("target_modules", describe_targets(saved_targets), describe_targets(trained_targets));
  differences.compare("modules_to_save", join(spec::match_modules_to_save(spec, saved.lora)),
                      join(spec::match_modules_to_save(spec, trained.lora)));
  std::string text = differences.text();
  if (text.empty() && shapes_of(saved_targets) != shapes_of(trained_targets))
    text = "\n  lora.rank_pattern, lora.alpha_pattern or lora.layers_to_transform: other modules, ranks or scales";
  if (text.empty()) return;
  fail(ErrorKind::kCheckpoint, checkpoint.string(),
       " holds another adapter than the one that this recipe trains:", text,
       "\nWrite the values of the run that saved it, or start a run of its own with lora.adapter.");
}

}  // namespace dsft::recipe
