#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace dsft::report {

/// Text as it stands between the tags, or in a quoted attribute, of an HTML page: nothing of it is read as markup.
/// Control characters other than tab and line feed, which a page may not hold, become the Unicode pictures of them.
std::string escape_html(std::string_view text);

/// The same of at most so many bytes of HTML: a longer text ends between two characters, and what is left out of it is
/// said behind.
std::string shortened_html(std::string_view text, size_t most_bytes);

/// A number as a page shows it, of four significant digits ("0.125", "1.2e-06"), large ones whole ("22,018"); a dash
/// for what is no number.
std::string format_number(double value);

}  // namespace dsft::report
