#pragma once

#include <string>
#include <utility>
#include <vector>

#include "report/line_chart.h"

namespace dsft::report {

/// A number that stands out at the top of the page.
struct KeyNumber {
  std::string label, value;
  std::string note = {};  ///< what it is compared with
};

/// Charts below one heading.
struct ChartSection {
  std::string title;
  std::vector<LineChart> charts;
};

/// What a page about a run shows. All texts are plain; `samples` is HTML.
struct RunPage {
  std::string title;
  std::string status;       ///< one line
  bool is_growing = false;  ///< the run goes on: the browser reads the page again now and then
  std::vector<KeyNumber> key_numbers;
  std::vector<ChartSection> sections;
  std::string samples = {};                                     ///< one <section>, or nothing
  std::vector<std::pair<std::string, std::string>> files = {};  ///< title and text, folded
};

/// One HTML document that needs nothing else: style and drawings are in it, scripts are none. Light or dark as the
/// reader's system.
std::string write_page(const RunPage& page);

}  // namespace dsft::report
