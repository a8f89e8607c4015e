#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/example_builder.h"
#include "data/row_prompt.h"
#include "recipe_config/recipe_config.h"
#include "rewards/compared_columns.h"

namespace dsft::recipe_config {

/// What the rows of a data file ask.
struct PromptCounts {
  int64_t num_kept = 0, num_held_out = 0;  ///< rows; held out: by data.eval_fraction
  int64_t longest = 0;                     ///< tokens of the longest prompt of those kept; 0: not known
  int64_t longest_held_out = 0;            ///< likewise
};

/// Looks at rows of a grpo recipe by the rules of a run (rl::read_prompt_rows, recipe::require_columns): each asks
/// something, as a conversation where agents have instructions, and has the columns that rewards compare with.
class PromptChecker {
 public:
  /// `assets`: null where they cannot be read; then prompts are not tokenised. Borrows both.
  PromptChecker(const RecipeConfig& config, const data::TextAssets* assets);

  /// All rows of a file. Throws kData, with file and line, for the first bad one; kCheckpoint where the chat template
  /// cannot show them.
  PromptCounts check(const std::string& path, const std::function<bool(int64_t number)>& is_held_out) const;

 private:
  /// Tokens of the longest prompt that the row gives, one for each agent; 0: not known.
  int64_t check_row(const nlohmann::ordered_json& row) const;

  const RecipeConfig& config_;
  rewards::ComparedColumns compared_;
  std::optional<data::PromptBuilder> prompts_;
};

}  // namespace dsft::recipe_config
