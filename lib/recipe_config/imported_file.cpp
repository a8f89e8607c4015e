#include "recipe_config/imported_file.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <utility>

#include "base/error.h"
#include "config/json_reader.h"
#include "config/yaml_reader.h"
#include "recipe_config/home_paths.h"

namespace dsft::recipe_config {

std::optional<std::string> read_bounded_text(const std::string& path, std::string& problem) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) {
    problem = "is a folder";
    return std::nullopt;
  }
  std::ifstream stream(path, std::ios::binary);
  if (!stream) {
    problem = concat("cannot be read: ", std::strerror(errno));
    return std::nullopt;
  }
  // one byte past the bound is enough to see that it is crossed; a device or pipe may have no end
  std::string text(config::kMaxRecipeBytes + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(stream.gcount()));
  return text;
}

std::optional<config::Node> read_imported_file(std::string path, const config::Position& named_at,
                                               const std::string& key, bool is_json,
                                               std::vector<config::Fault>& faults) {
  expand_home(path);
  std::string problem;
  const std::optional<std::string> text = read_bounded_text(path, problem);
  if (!text) {
    faults.push_back({named_at, key, concat(path, " ", problem)});
    return std::nullopt;
  }
  std::vector<config::Fault> own;
  config::Node root = is_json ? config::read_json(*text, path, own) : config::read_yaml(*text, path, own);
  const bool is_readable = own.empty() || root.is_map();
  for (config::Fault& fault : own) faults.push_back(std::move(fault));
  if (!is_readable) return std::nullopt;
  if (root.is_map()) return root;
  const config::Position begin = root.position.line > 0 ? root.position : config::Position{path, 0, 0};
  faults.push_back({begin, "", concat("is a map of keys, not ", config::describe(root))});
  return std::nullopt;
}

}  // namespace dsft::recipe_config
