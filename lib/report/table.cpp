#include "report/table.h"

#include <algorithm>

#include "base/error.h"

namespace dsft::report {
namespace {

size_t width_of(const std::string& text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

bool is_number(const std::string& text) {
  return !text.empty() && text.find_first_not_of("0123456789+-.,%exX ") == std::string::npos;
}

struct Column {
  size_t width = 0;
  bool is_numeric = true;
};

std::string format_row(const std::vector<std::string>& row, const std::vector<Column>& columns) {
  std::string line;
  for (size_t index = 0; index < row.size(); ++index) {
    const std::string padding(columns[index].width - width_of(row[index]), ' ');
    line += (index == 0 ? "" : "  ") + (columns[index].is_numeric ? padding + row[index] : row[index] + padding);
  }
  line.erase(line.find_last_not_of(' ') + 1);
  return line + "\n";
}

}  // namespace

std::string format_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  std::vector<Column> columns(header.size());
  for (size_t index = 0; index < header.size(); ++index) columns[index].width = width_of(header[index]);
  for (const auto& row : rows) {
    DSFT_CHECK(row.size() <= header.size(), "a row of ", row.size(), " cells under ", header.size(), " columns");
    for (size_t index = 0; index < row.size(); ++index) {
      columns[index].width = std::max(columns[index].width, width_of(row[index]));
      columns[index].is_numeric &= row[index].empty() || is_number(row[index]);
    }
  }
  std::vector<std::string> rule;
  for (const Column& column : columns) rule.emplace_back(column.width, '-');
  std::string text = format_row(header, columns) + format_row(rule, columns);
  for (const auto& row : rows) text += format_row(row, columns);
  return text;
}

}  // namespace dsft::report
