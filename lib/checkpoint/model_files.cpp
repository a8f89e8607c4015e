#include "checkpoint/model_files.h"

#include <array>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "io/file.h"
#include "io/json.h"

namespace dsft::checkpoint {

namespace fs = std::filesystem;

namespace {

constexpr auto kTokenizerFiles = std::to_array<const char*>(
    {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
     "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json"});

void write_config(const fs::path& source, const fs::path& target, const ModelFileChanges& changes) {
  nlohmann::ordered_json config = io::read_ordered_json_file(source);
  if (changes.dtype) {
    const bool is_old_dialect =
        config.contains("torch_dtype") || (!config.contains("dtype") && !config.contains("rope_parameters"));
    config[is_old_dialect ? "torch_dtype" : "dtype"] = dtype_config_name(*changes.dtype);
    if (is_old_dialect) config.erase("dtype");
  }
  if (changes.tie_word_embeddings) config["tie_word_embeddings"] = *changes.tie_word_embeddings;
  io::write_text_file(target, config.dump(2) + "\n");
}

/// The template inside tokenizer_config.json is replaced too: programs that do not know chat_template.jinja read that
/// one.
void replace_template(const fs::path& target, const std::string& chat_template) {
  io::write_text_file(target / "chat_template.jinja", chat_template);
  fs::remove(target / "chat_template.json");
  const fs::path file = target / "tokenizer_config.json";
  if (!fs::exists(file)) return;
  nlohmann::ordered_json config = io::read_ordered_json_file(file);
  if (!config.is_object() || !config.contains("chat_template")) return;
  config["chat_template"] = chat_template;
  io::write_text_file(file, config.dump(2) + "\n");
}

}  // namespace

void require_new_output(const fs::path& output) {
  if (fs::exists(output) && !(fs::is_directory(output) && fs::is_empty(output)))
    fail(ErrorKind::kUsage, "The output ", output.string(), " exists already. Name a new folder, or delete it.");
}

std::string dtype_config_name(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return "float32";
    case at::kBFloat16:
      return "bfloat16";
    case at::kHalf:
      return "float16";
    default:
      DSFT_CHECK(false, "no type of weights: ", c10::toString(type));
      return "";
  }
}

std::vector<std::string> find_tokenizer_files(const fs::path& directory) {
  std::vector<std::string> names;
  for (const char* name : kTokenizerFiles)
    if (fs::exists(directory / name)) names.emplace_back(name);
  return names;
}

void copy_tokenizer_files(const fs::path& source, const fs::path& target,
                          const std::optional<std::string>& chat_template) {
  for (const std::string& name : find_tokenizer_files(source)) io::copy_file_contents(source / name, target / name);
  const fs::path templates = source / "additional_chat_templates";
  if (fs::is_directory(templates) && !chat_template) {
    fs::create_directories(target / templates.filename());
    for (const auto& entry : fs::directory_iterator(templates)) {
      if (entry.is_regular_file())
        io::copy_file_contents(entry.path(), target / templates.filename() / entry.path().filename());
    }
  }
  if (chat_template) replace_template(target, *chat_template);
}

void copy_model_files(const fs::path& source, const fs::path& target, const ModelFileChanges& changes) {
  write_config(source / "config.json", target / "config.json", changes);
  if (fs::exists(source / "generation_config.json"))
    io::copy_file_contents(source / "generation_config.json", target / "generation_config.json");
  copy_tokenizer_files(changes.text_directory.empty() ? source : changes.text_directory, target, changes.chat_template);
}

}  // namespace dsft::checkpoint
