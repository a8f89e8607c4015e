#include "rewards/row_columns.h"

#include "base/error.h"
#include "base/nearest_name.h"

namespace dsft::rewards {

void require_columns(const nlohmann::ordered_json& columns, const std::vector<std::string>& needed) {
  for (const std::string& column : needed) {
    if (columns.contains(column)) continue;
    std::vector<std::string> found;
    for (const auto& [name, value] : columns.items()) found.push_back("\"" + name.substr(0, 60) + "\"");
    fail(ErrorKind::kData, "there is no column \"", column,
         "\", which a reward of grpo.rewards compares completions with; ",
         found.empty() ? std::string("the row has none") : "the row has " + join_words(found),
         " (columns are the fields that the prompt is not made of, and the row's answer as \"completion\")");
  }
}

}  // namespace dsft::rewards
