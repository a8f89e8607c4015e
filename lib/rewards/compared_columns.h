#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "rewards/built_in.h"
#include "rewards/reward_config.h"

namespace dsft::rewards {

/// The columns of rows that the built-in functions of a recipe compare completions with, so that a row which lacks one
/// is found before anything is sampled.
class ComparedColumns final {
 public:
  explicit ComparedColumns(const std::vector<RewardConfig>& rewards);

  /// Throws kData where a row's columns (data::columns_of) lack one, or where it holds what its function cannot compare
  /// with; the message names no row.
  void require_in(const nlohmann::ordered_json& columns) const;

 private:
  struct Compared {
    std::string reward, column;
    RewardFunction function;
  };
  std::vector<Compared> compared_;
};

}  // namespace dsft::rewards
