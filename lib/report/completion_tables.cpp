#include "report/completion_tables.h"

#include <algorithm>
#include <array>
#include <span>

#include "base/error.h"
#include "report/html_text.h"

namespace dsft::report {
namespace {

using Json = nlohmann::ordered_json;

// Of HTML, so that the page of a run stays small: a text, a prompt with all its messages, a name or a small field, all.
constexpr size_t kMostOfText = 6000, kMostOfName = 300, kMostOfAll = 256'000;
constexpr std::array kNamesOfPrompt = {"step", "evaluation", "prompt"};  // completions that share them share a table

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

const Json& member(const Json& object, const std::string& name) {
  static const Json nothing;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return found == object.end() ? nothing : *found;
}

std::string draw_text(const Json& value, size_t most_bytes = kMostOfText) {
  return "<pre>" + shortened_html(text_of(value), most_bytes) + "</pre>";
}

std::string draw_prompt(const Json& prompt) {
  if (!prompt.is_array()) return draw_text(prompt);
  std::string html;
  for (size_t i = 0; i < prompt.size(); ++i) {
    if (html.size() >= kMostOfText)
      return html + concat("<div class=\"role\">… and ", prompt.size() - i, " more messages</div>");
    if (!prompt[i].is_object()) continue;
    const Json role = member(prompt[i], "role");
    if (!role.is_null()) html += concat("<div class=\"role\">", shortened_html(text_of(role), kMostOfName), "</div>");
    if (prompt[i].contains("content"))
      html += draw_text(member(prompt[i], "content"), kMostOfText - std::min(html.size(), kMostOfText));
  }
  return html;
}

std::string draw_number(const Json& value, bool has_sign = false) {
  if (!value.is_number()) return "<td class=\"number\">–</td>";
  const double number = value.get<double>();
  const char* sign = !has_sign || number == 0 ? "" : number > 0 ? " above" : " below";
  return concat("<td class=\"number", sign, "\">", has_sign && number > 0 ? "+" : "", format_number(number), "</td>");
}

bool is_known(const std::string& name) {
  return name == "step" || name == "evaluation" || name == "prompt" || name == "completion" || name == "rewards" ||
         name == "reward" || name == "advantage";
}

/// Columns of a group: further fields of one value, and rewards.
struct Columns {
  std::vector<std::string> fields, rewards;
};

Columns columns_of(const Json& record) {
  Columns columns;
  for (const auto& [name, value] : record.items())
    if (!is_known(name) && value.is_primitive()) columns.fields.push_back(name);
  if (const auto rewards = record.find("rewards"); rewards != record.end() && rewards->is_object())
    for (const auto& [name, value] : rewards->items()) columns.rewards.push_back(name);
  return columns;
}

std::string draw_row(const Json& record, const Columns& columns) {
  std::string html = "<tr><td class=\"text\">" + draw_text(member(record, "completion")) + "</td>";
  for (const std::string& name : columns.fields) {
    const Json& value = member(record, name);
    html += value.is_number() ? draw_number(value) : "<td>" + shortened_html(text_of(value), kMostOfName) + "</td>";
  }
  for (const std::string& name : columns.rewards) html += draw_number(member(member(record, "rewards"), name));
  return html + draw_number(member(record, "reward")) + draw_number(member(record, "advantage"), /*has_sign=*/true) +
         "</tr>\n";
}

std::string draw_head(const Json& record, const Columns& columns) {
  const bool is_evaluation = member(record, "evaluation") == Json(true);
  std::string html =
      concat("<div class=\"group\"><div class=\"prompt\"><div class=\"role\">",
             is_evaluation ? "evaluation after update " : "update ",
             shortened_html(text_of(member(record, "step")), kMostOfName), "</div>",
             draw_prompt(member(record, "prompt")), "</div><div class=\"wide\"><table><tr><th>completion</th>");
  for (const std::string& name : columns.fields) html += "<th>" + shortened_html(name, kMostOfName) + "</th>";
  for (const std::string& name : columns.rewards)
    html += "<th class=\"number\">" + shortened_html(name, kMostOfName) + "</th>";
  return html + "<th class=\"number\">reward</th><th class=\"number\">advantage</th></tr>\n";
}

// The newest of these records, which are of one prompt, as far as there is room for them; "": for none.
std::string draw_group(std::span<const Json> records, size_t room) {
  const Columns columns = columns_of(records.back());
  const std::string head = draw_head(records.back(), columns), end = "</table></div></div>\n";
  std::string rows;
  for (size_t i = records.size(); i-- > 0;) {
    const std::string row = draw_row(records[i], columns);
    if (head.size() + row.size() + rows.size() + end.size() > room) break;
    rows = row + rows;
  }
  return rows.empty() ? "" : head + rows + end;
}

bool are_of_one_prompt(const Json& a, const Json& b) {
  return std::all_of(kNamesOfPrompt.begin(), kNamesOfPrompt.end(),
                     [&](const char* name) { return member(a, name) == member(b, name); });
}

}  // namespace

std::string draw_completions(const std::vector<Json>& records) {
  std::string groups;
  for (size_t end = records.size(); end > 0;) {  // the newest first
    size_t begin = end - 1;
    while (begin > 0 && are_of_one_prompt(records[begin - 1], records[end - 1])) --begin;
    const std::string group = draw_group(std::span(records).subspan(begin, end - begin), kMostOfAll - groups.size());
    if (group.empty()) break;
    groups = group + groups;
    end = begin;
  }
  if (groups.empty()) return "";
  return concat("<section><h2>Newest completions</h2>\n", groups, "</section>\n");
}

}  // namespace dsft::report
