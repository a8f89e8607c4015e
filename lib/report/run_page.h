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

/// What a page about a run shows. All texts are plain; `samples` is HTML of bounded size (draw_completions).
struct RunPage {
  std::string title;
  std::string status;       ///< one line
  bool is_growing = false;  ///< the run goes on: the browser reads the page again now and then
  std::vector<KeyNumber> key_numbers;
  std::vector<ChartSection> sections;
  std::string samples = {};                                     ///< one <section>, or nothing
  std::vector<std::pair<std::string, std::string>> files = {};  ///< title and text, folded
};

/// The page, of less than a megabyte: where charts are too many the last ones are named and not drawn, and files are
/// cut.
std::string write_page(const RunPage& page);

}  // namespace dsft::report
