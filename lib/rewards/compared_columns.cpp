#include "rewards/compared_columns.h"

#include "base/error.h"
#include "base/nearest_name.h"

namespace dsft::rewards {

ComparedColumns::ComparedColumns(const std::vector<RewardConfig>& rewards) {
  for (const RewardConfig& reward : rewards) {
    if (reward.is_program()) continue;
    const auto& built_in = std::get<BuiltInConfig>(reward.function);
    if (const std::string column = needed_column(built_in); !column.empty())
      compared_.push_back({reward.metric_name(), column, make_built_in(built_in)});
  }
}

void ComparedColumns::require_in(const nlohmann::ordered_json& columns) const {
  for (const Compared& compared : compared_) {
    if (!columns.contains(compared.column)) {
      std::vector<std::string> found;
      for (const auto& [name, value] : columns.items()) found.push_back("\"" + name.substr(0, 60) + "\"");
      fail(ErrorKind::kData, "there is no column \"", compared.column, "\", which the reward `", compared.reward,
           "` compares completions with; ",
           found.empty() ? std::string("the row has none") : "the row has " + join_words(found),
           " (columns are the fields that the prompt is not made of, and the row's answer as \"completion\"). Write "
           "null in rows that it is not to judge");
    }
    try {
      compared.function({.prompt = {}, .completion = {}, .text = {}, .marked_text = {}, .columns = columns});
    } catch (const Error& error) {
      fail(ErrorKind::kData, "the reward `", compared.reward,
           "` cannot compare completions with this row: ", error.message(),
           ". Write null in rows that it is not to judge, or name another `column`");
    }
  }
}

}  // namespace dsft::rewards
