#pragma once

#include <string>
#include <vector>

namespace dsft::report {

/// Lays out a table as text: columns as wide as their widest cell, two spaces between them, numbers to the right and
/// words to the left, a rule under the header. Widths count UTF-8 characters. Rows may be shorter than the header; a
/// longer one is an error of the caller.
std::string format_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);

}  // namespace dsft::report
