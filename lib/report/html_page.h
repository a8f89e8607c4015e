#pragma once

#include <optional>
#include <string>

namespace dsft::report {

/// A document and what all of dsft's pages have in common: one file that needs nothing else, without scripts, light or
/// dark as the reader's system.
struct HtmlPage {
  std::string title;       ///< plain text
  std::string style = {};  ///< CSS behind that of all pages, which has the colours as variables (--text, --rule, ...)
  std::string body = {};   ///< HTML behind the heading, which is the title
  std::optional<int> read_again_s = {};  ///< it is growing: the browser reads it again after so many seconds
};

std::string write_html(const HtmlPage& page);

}  // namespace dsft::report
