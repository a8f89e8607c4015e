#include "report/completion_tables.h"

#include <algorithm>

#include "base/error.h"
#include "report/html_text.h"

namespace dsft::report {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kMostBytes = 6000;  // of a text on the page

std::string shortened(const std::string& text) {
  if (text.size() <= kMostBytes) return escape_html(text);
  size_t end = kMostBytes;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) --end;  // not inside a character
  return concat(escape_html(text.substr(0, end)), "<span class=\"role\"> … and ", text.size() - end,
                " more bytes</span>");
}

std::string text_of(const Json& value) {
  return value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string draw_prompt(const Json& prompt) {
  if (!prompt.is_array()) return "<pre>" + shortened(text_of(prompt)) + "</pre>";
  std::string html;
  for (const Json& message : prompt) {
    if (!message.is_object()) continue;
    html += "<div class=\"role\">" + escape_html(message.value("role", "")) + "</div>";
    const auto content = message.find("content");
    if (content != message.end()) html += "<pre>" + shortened(text_of(*content)) + "</pre>";
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
  return name == "step" || name == "prompt" || name == "completion" || name == "rewards" || name == "reward" ||
         name == "advantage";
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

const Json& member(const Json& object, const std::string& name) {
  static const Json nothing;
  const auto found = object.is_object() ? object.find(name) : object.end();
  return found == object.end() ? nothing : *found;
}

std::string draw_row(const Json& record, const Columns& columns) {
  std::string html = "<tr><td class=\"text\"><pre>" + shortened(text_of(member(record, "completion"))) + "</pre></td>";
  for (const std::string& name : columns.fields) {
    const Json& value = member(record, name);
    html += value.is_number() ? draw_number(value) : "<td>" + shortened(text_of(value)) + "</td>";
  }
  for (const std::string& name : columns.rewards) html += draw_number(member(member(record, "rewards"), name));
  return html + draw_number(member(record, "reward")) + draw_number(member(record, "advantage"), /*has_sign=*/true) +
         "</tr>\n";
}

std::string draw_group(const std::vector<Json>& records, size_t begin, size_t end) {
  const Columns columns = columns_of(records[begin]);
  std::string html =
      concat("<div class=\"group\"><div class=\"prompt\"><div class=\"role\">update ",
             escape_html(text_of(member(records[begin], "step"))), "</div>",
             draw_prompt(member(records[begin], "prompt")), "</div><div class=\"wide\"><table><tr><th>completion</th>");
  for (const std::string& name : columns.fields) html += "<th>" + escape_html(name) + "</th>";
  for (const std::string& name : columns.rewards) html += "<th class=\"number\">" + escape_html(name) + "</th>";
  html += "<th class=\"number\">reward</th><th class=\"number\">advantage</th></tr>\n";
  for (size_t i = begin; i < end; ++i) html += draw_row(records[i], columns);
  return html + "</table></div></div>\n";
}

}  // namespace

std::string draw_completions(const std::vector<Json>& records) {
  std::string groups;
  for (size_t begin = 0; begin < records.size();) {
    size_t end = begin + 1;
    const auto is_same = [&](const char* name) { return member(records[end], name) == member(records[begin], name); };
    while (end < records.size() && is_same("step") && is_same("prompt")) ++end;
    groups += draw_group(records, begin, end);
    begin = end;
  }
  if (groups.empty()) return "";
  return concat("<section><h2>Newest completions</h2>\n", groups, "</section>\n");
}

}  // namespace dsft::report
