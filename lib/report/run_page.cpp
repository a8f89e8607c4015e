#include "report/run_page.h"

#include "base/error.h"
#include "report/html_text.h"

namespace dsft::report {
namespace {

constexpr int kReadAgain_s = 30;

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --page: #f6f7f9; --card: #ffffff; --text: #1b1f24; --quiet: #5b6470; --rule: #e1e5ea;
  --c0: #2a78d6; --c1: #d9652b; --c2: #16986b; --c3: #c08a00; --c4: #6a52c7; --c5: #d23f4b; --c6: #c2528f; --c7: #5b7a1f; }
@media (prefers-color-scheme: dark) { :root { --page: #14171b; --card: #1c2026; --text: #e7eaee; --quiet: #9aa4b0; --rule: #2e343c;
  --c0: #5aa0ee; --c1: #ec8a55; --c2: #3cbf92; --c3: #dcae3c; --c4: #a594f0; --c5: #ef7079; --c6: #e285ba; --c7: #9cba5c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 28px 24px 48px; max-width: 1520px; background: var(--page); color: var(--text); font: 14px/1.45 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 22px; margin: 0; } h2 { font-size: 16px; margin: 30px 0 10px; } h3 { font-size: 13px; margin: 0; }
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
pre { margin: 0; font: 12.5px/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 22em; overflow-y: auto; }
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

std::string write_section(const ChartSection& section) {
  std::string charts;
  for (const LineChart& chart : section.charts) charts += draw_chart(chart);
  if (charts.empty()) return "";
  return concat("<section><h2>", escape_html(section.title), "</h2><div class=\"charts\">\n", charts,
                "</div></section>\n");
}

}  // namespace

std::string write_page(const RunPage& page) {
  std::string html = concat(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width\">",
      page.is_growing ? concat("<meta http-equiv=\"refresh\" content=\"", kReadAgain_s, "\">") : std::string(),
      "<title>", escape_html(page.title), "</title><style>", kStyle, colour_rules(), "</style></head><body>\n<h1>",
      escape_html(page.title), "</h1><p class=\"status\">", escape_html(page.status), "</p>\n<div class=\"keys\">");
  for (const KeyNumber& number : page.key_numbers)
    html += concat("<div><small>", escape_html(number.label), "</small><b>", escape_html(number.value), "</b><small>",
                   escape_html(number.note), "</small></div>");
  html += "</div>\n";
  for (const ChartSection& section : page.sections) html += write_section(section);
  html += page.samples;
  for (const auto& [title, text] : page.files)
    html +=
        concat("<details><summary>", escape_html(title), "</summary><pre>", escape_html(text), "</pre></details>\n");
  return html + "</body></html>\n";
}

}  // namespace dsft::report
