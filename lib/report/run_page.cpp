#include "report/run_page.h"

#include <optional>

#include "base/error.h"
#include "report/html_page.h"
#include "report/html_text.h"

namespace dsft::report {
namespace {

constexpr int kReadAgain_s = 30;

// What the page may take, so that it stays below a megabyte: style, numbers at the top and samples come on top.
constexpr size_t kMostBytesOfCharts = 560'000;
constexpr size_t kMostBytesOfFile = 64'000;
constexpr size_t kMostBytesOfNames = 4'000;  // of charts that are left out

constexpr const char* kStyle = R"(
.status { color: var(--quiet); margin: 2px 0 18px; }
.keys { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px; }
.keys div, figure, .group { background: var(--card); border: 1px solid var(--rule); border-radius: 8px; }
.keys div { padding: 10px 14px; } .keys b { display: block; font-size: 22px; font-weight: 600; line-height: 1.3; } .keys small { color: var(--quiet); font-size: 12px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 400px), 1fr)); gap: 12px; }
figure { margin: 0; padding: 12px 14px 8px; display: flex; flex-direction: column; justify-content: space-between; }
figcaption p { margin: 0; color: var(--quiet); font-size: 12px; } .legend { display: flex; flex-wrap: wrap; gap: 0 14px; }
.legend b { color: var(--text); font-weight: 600; font-variant-numeric: tabular-nums; } .legend i { display: inline-block; width: 14px; height: 3px; border-radius: 2px; margin-right: 5px; vertical-align: middle; }
svg { display: block; width: 100%; height: auto; margin-top: 6px; } .grid { stroke: var(--rule); stroke-width: 1; } .tick { fill: var(--quiet); font-size: 10.5px; font-variant-numeric: tabular-nums; }
.line { fill: none; stroke-width: 1.7; stroke-linejoin: round; stroke-linecap: round; } .band { stroke: none; opacity: 0.16; }
.at rect { fill: transparent; } .at path { stroke: var(--quiet); stroke-width: 1; opacity: 0; } .at:hover path { opacity: 0.7; }
.group { margin: 0 0 12px; overflow: hidden; } .prompt { padding: 10px 14px; border-bottom: 1px solid var(--rule); } .wide { overflow-x: auto; }
.role { color: var(--quiet); font-size: 12px; } table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 500; font-size: 12px; color: var(--quiet); white-space: nowrap; }
th, td { padding: 7px 14px; vertical-align: top; border-top: 1px solid var(--rule); } tr:first-child th { border-top: none; } td.text { min-width: 320px; width: 100%; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; } .above { color: var(--c2); } .below { color: var(--c5); }
details { margin-top: 24px; } summary { cursor: pointer; font-weight: 600; } details pre { margin-top: 8px; padding: 12px 14px; background: var(--card); border: 1px solid var(--rule); border-radius: 8px; max-height: none; }
)";

// Lines and legend take the stroke's colour, bands and marks the fill's.
std::string colour_rules() {
  std::string css;
  for (int i = 0; i < 8; ++i)
    css += concat(".line.c", i, " { stroke: var(--c", i, "); } .band.c", i, ", .mark.c", i, " { fill: var(--c", i,
                  "); } i.c", i, " { background: var(--c", i, "); }\n");
  return css;
}

/// Draws charts as long as there is room for them.
class ChartWriter {
 public:
  std::string draw(const ChartSection& section) {
    std::string charts;
    for (const LineChart& chart : section.charts) {
      const std::string drawn = draw_chart(chart);
      if (num_bytes_ + drawn.size() > kMostBytesOfCharts) {
        left_out_ += (left_out_.empty() ? "" : ", ") + chart.title;
        continue;
      }
      num_bytes_ += drawn.size();
      charts += drawn;
    }
    if (charts.empty()) return "";
    return concat("<section><h2>", escape_html(section.title), "</h2><div class=\"charts\">\n", charts,
                  "</div></section>\n");
  }
  std::string say_what_is_left_out() const {
    if (left_out_.empty()) return "";
    return concat("<p class=\"status\">Not drawn, to keep this page small: ",
                  shortened_html(left_out_, kMostBytesOfNames), ". All numbers are in metrics.jsonl.</p>\n");
  }

 private:
  size_t num_bytes_ = 0;
  std::string left_out_;  // titles
};

}  // namespace

std::string write_page(const RunPage& page) {
  std::string html = concat("<p class=\"status\">", escape_html(page.status), "</p>\n<div class=\"keys\">");
  for (const KeyNumber& number : page.key_numbers)
    html += concat("<div><small>", escape_html(number.label), "</small><b>", escape_html(number.value), "</b><small>",
                   escape_html(number.note), "</small></div>");
  html += "</div>\n";
  ChartWriter charts;
  for (const ChartSection& section : page.sections) html += charts.draw(section);
  html += charts.say_what_is_left_out() + page.samples;
  for (const auto& [title, text] : page.files)
    html += concat("<details><summary>", escape_html(title), "</summary><pre>", shortened_html(text, kMostBytesOfFile),
                   "</pre></details>\n");
  return write_html({.title = page.title,
                     .style = kStyle + colour_rules(),
                     .body = std::move(html),
                     .read_again_s = page.is_growing ? std::optional(kReadAgain_s) : std::nullopt});
}

}  // namespace dsft::report
