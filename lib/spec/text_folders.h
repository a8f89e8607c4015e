#pragma once

#include <filesystem>
#include <optional>
#include <string>

namespace dsft::spec {

/// Where a model says what its text is.
struct TextFolders {
  TextFolders() = default;
  /// One folder for all.
  TextFolders(std::filesystem::path both) : model(both), text(std::move(both)) {}

  std::filesystem::path model;  ///< config.json and generation_config.json: the tokens that end an answer
  std::filesystem::path text;   ///< the tokenizer and the chat templates
};

/// Those of a model, or of base + adapter: tokenizer and templates both come from one folder, the adapter's where it
/// has a tokenizer.json (what it was trained with), else the base's.
TextFolders find_text_folders(const std::filesystem::path& base, const std::optional<std::string>& adapter);

}  // namespace dsft::spec
