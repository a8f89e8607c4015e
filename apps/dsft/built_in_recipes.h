#pragma once

#include <span>
#include <string_view>

namespace dsft::apps {

/// A file of the folder recipes/: a ready recipe, or a chat template, model configuration or reward program that goes
/// with one.
struct BuiltInFile {
  std::string_view name;  ///< "sft/smollm2_135m_function_calling.yaml", "templates/smollm2_tools.jinja"
  std::string_view text;

  bool is_recipe() const { return name.ends_with(".yaml"); }
};

/// All of them, by name.
std::span<const BuiltInFile> built_in_files();

}  // namespace dsft::apps
