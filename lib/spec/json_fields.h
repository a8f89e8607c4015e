#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"

namespace dsft::spec {

/// Reads typed fields of one JSON object and gathers the faults, so that a user sees all of them at once. An absent key
/// and null both give the default.
class JsonFields {
 public:
  JsonFields(const nlohmann::json& object, std::vector<std::string>& faults, std::string prefix = "")
      : object_(object), faults_(faults), prefix_(std::move(prefix)) {}

  /// Is the key there, with a value other than null?
  bool has(const std::string& key) const;
  /// Is the key there, be it null?
  bool is_written(const std::string& key) const { return object_.contains(key); }
  const nlohmann::json& at(const std::string& key) const { return object_.at(key); }

  int64_t integer(const std::string& key, int64_t fallback, int64_t lowest, int64_t highest) const;
  double number(const std::string& key, double fallback, double lowest, double highest) const;
  bool boolean(const std::string& key, bool fallback) const;
  std::string text(const std::string& key, const std::string& fallback) const;
  std::optional<double> optional_number(const std::string& key, double lowest, double highest) const;
  /// A token id; a negative one stands for none.
  std::optional<int32_t> token_id(const std::string& key, std::optional<int32_t> fallback) const;
  /// One token id or a list of them.
  std::vector<int32_t> token_ids(const std::string& key, std::vector<int32_t> fallback) const;

  template <typename... Parts>
  void fault(const std::string& key, const Parts&... parts) const {
    faults_.push_back(concat(prefix_, key, " ", parts...));
  }

 private:
  const nlohmann::json& object_;
  std::vector<std::string>& faults_;
  std::string prefix_;
};

/// Throws `kind` with one line per fault; does nothing where there is none.
void fail_on_faults(const std::vector<std::string>& faults, const std::filesystem::path& file,
                    ErrorKind kind = ErrorKind::kCheckpoint);

}  // namespace dsft::spec
