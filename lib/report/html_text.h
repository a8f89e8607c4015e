#pragma once

#include <string>
#include <string_view>

namespace dsft::report {

/// Text as it stands between the tags, or in a quoted attribute, of an HTML page: nothing of it is read as markup.
/// Control characters other than tab and line feed, which a page may not hold, become the Unicode pictures of them.
std::string escape_html(std::string_view text);

/// A number as a page shows it, of four significant digits ("0.125", "1.2e-06"), large ones whole ("22,018"); a dash
/// for what is no number.
std::string format_number(double value);

}  // namespace dsft::report
