#include "spec/text_folders.h"

namespace dsft::spec {

TextFolders find_text_folders(const std::filesystem::path& base, const std::optional<std::string>& adapter) {
  TextFolders folders(base);
  std::error_code error;
  if (adapter && std::filesystem::exists(std::filesystem::path(*adapter) / "tokenizer.json", error))
    folders.text = *adapter;
  return folders;
}

}  // namespace dsft::spec
