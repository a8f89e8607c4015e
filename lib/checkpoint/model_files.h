#pragma once

#include <c10/core/ScalarType.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace dsft::checkpoint {

/// What changes in the files around the weights when a model is written again.
struct ModelFileChanges {
  std::optional<at::ScalarType> dtype = {};      ///< config.json's dtype (or torch_dtype, as the source spells it)
  std::optional<bool> tie_word_embeddings = {};  ///< empty: as it was
  std::optional<std::string> chat_template =
      {};                                     ///< another template than the source's: written as chat_template.jinja
  std::filesystem::path text_directory = {};  ///< where tokenizer and template come from; empty: the source
};

/// Tokenizer and template files in a folder.
std::vector<std::string> find_tokenizer_files(const std::filesystem::path& directory);

/// Copies generation_config.json, the tokenizer's files and the chat template from one model folder to another; what is
/// not there is skipped.
void copy_tokenizer_files(const std::filesystem::path& source, const std::filesystem::path& target,
                          const std::optional<std::string>& chat_template = {});

/// Writes config.json of `source` with changes, and copies generation_config.json and the tokenizer's files, so that
/// the folder loads by itself.
void copy_model_files(const std::filesystem::path& source, const std::filesystem::path& target,
                      const ModelFileChanges& changes);

/// Throws kUsage where the folder that a command is to make is there already and is not empty.
void require_new_output(const std::filesystem::path& output);

/// "float32", "bfloat16", "float16".
std::string dtype_config_name(at::ScalarType type);

}  // namespace dsft::checkpoint
