#include "recipe_config/model_checks.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/nearest_name.h"
#include "io/json.h"
#include "spec/lora_checks.h"
#include "text/chat_template.h"

namespace dsft::recipe_config {
namespace {

void check_length(const RecipeConfig& config, const spec::ModelSpec& spec, config::Section& top) {
  const int64_t known = spec.max_position_embeddings;
  if (config.recipe == RecipeKind::kGrpo) return;  // it cuts no prompt
  if (known <= 0 || config.data.max_length <= known) return;
  top.remark("data.max_length", concat("rows may have up to ", config.data.max_length, " tokens, but the model knows ",
                                       known, " positions (max_position_embeddings): write max_length: ", known,
                                       " unless it is meant to learn longer texts"));
}

}  // namespace

void check_on_model(const RecipeConfig& config, const spec::ModelSpec& spec, config::Section& top) {
  check_length(config, spec, top);
  if (!config.lora || config.lora->adapter) return;
  for (const spec::LoraRemark& remark : spec::check_lora_names(spec, *config.lora)) {
    if (remark.is_fault) {
      top.fault("lora." + remark.key, remark.message);
    } else {
      top.warn("lora." + remark.key, remark.message);
    }
  }
}

void check_template_kwargs(const RecipeConfig& config, const std::filesystem::path& text_folder, config::Section& top) {
  const auto kwargs =
      io::parse_ordered_json(config.data.chat_template_kwargs, "data.chat_template_kwargs", ErrorKind::kUsage);
  if (kwargs.empty()) return;
  const std::string own = config.data.chat_template.value_or("");
  std::vector<std::string> unread;
  const auto plain = text::ChatTemplate::load(text_folder, own, /*has_tools=*/false);
  const auto of_tools = text::ChatTemplate::load(text_folder, own, /*has_tools=*/true);
  for (const auto& [name, value] : kwargs.items()) {
    const bool is_read = (plain && plain->reads_variable(name)) || (of_tools && of_tools->reads_variable(name));
    if (!is_read) unread.push_back("`" + name + "`");
  }
  if (unread.empty()) return;
  const bool has_template = plain || of_tools;
  top.no_effect("data.chat_template_kwargs",
                has_template ? concat("the chat template never reads ", join_words(unread))
                             : std::string("the checkpoint has no chat template that could read it"));
}

}  // namespace dsft::recipe_config
