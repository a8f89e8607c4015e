#include "report/line_chart.h"

#include <cmath>

#include "catch_amalgamated.hpp"
#include "report/html_text.h"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;
using report::draw_chart;
using report::LineChart;

TEST_CASE("ticks are round numbers around what is shown", "[report]") {
  const auto ticks = [](double least, double most) {
    std::vector<double> rounded;
    for (const double tick : report::round_ticks(least, most, 4)) rounded.push_back(std::round(tick * 1e6) / 1e6);
    return rounded;
  };
  CHECK(ticks(0, 1) == std::vector<double>{0, 0.5, 1});
  CHECK(ticks(0, 0.8) == std::vector<double>{0, 0.2, 0.4, 0.6, 0.8});
  CHECK(ticks(-0.3, 0.37) == std::vector<double>{-0.4, -0.2, 0, 0.2, 0.4});
  CHECK(ticks(118, 402) == std::vector<double>{100, 200, 300, 400, 500});
}

TEST_CASE("a chart says each point's numbers, and its texts are no markup", "[report]") {
  const LineChart chart{.title = "a <b>",
                        .series = {{"x & y", {{1, 1, 0.25, 0.5}, {2, 3, 0.75, std::nan("")}}}, {"z", {{1, 1, 1, 1}}}}};
  const std::string html = draw_chart(chart);
  CHECK_THAT(html, ContainsSubstring("a &lt;b&gt;"));
  CHECK_THAT(html, ContainsSubstring("update 1\nx &amp; y: 0.25 ± 0.5\nz: 1 ± 1"));
  CHECK_THAT(html, ContainsSubstring("updates 2 to 3\nx &amp; y: 0.75<"));
  CHECK_THAT(html, !ContainsSubstring("nan"));
}

TEST_CASE("of many points some say their numbers, the newest among them", "[report]") {
  report::ChartSeries series{"a", {}};
  for (int64_t step = 1; step <= 160; ++step) series.points.push_back({step, step, 1.0 / static_cast<double>(step)});
  const std::string html = draw_chart({.title = "t", .series = {series}});
  size_t num_fields = 0;
  for (size_t at = html.find("<title>"); at != std::string::npos; at = html.find("<title>", at + 1)) ++num_fields;
  CHECK(num_fields == 40);
  CHECK_THAT(html, ContainsSubstring("update 160\na: 0.00625<") && !ContainsSubstring("update 159\n"));
}

TEST_CASE("gaps divide a line, and a chart without a number is none", "[report]") {
  const double none = std::nan("");
  CHECK(draw_chart({.title = "t", .series = {}}).empty());
  CHECK(draw_chart({.title = "t", .series = {{"a", {{1, 1, none, none}}}}}).empty());
  const std::string html = draw_chart(
      {.title = "t", .series = {{"a", {{1, 1, 3, none}, {2, 2, 3, none}, {3, 3, none, none}, {4, 4, 3, none}}}}});
  const size_t line = html.find("class=\"line");
  const std::string path = html.substr(line, html.find("/>", line) - line);
  CHECK(std::count(path.begin(), path.end(), 'M') == 2);
  CHECK_THAT(html, ContainsSubstring("<circle"));  // a point alone would not be seen as a line
}

TEST_CASE("numbers are shown with few digits, large ones whole", "[report]") {
  CHECK(report::format_number(0.123456) == "0.1235");
  CHECK(report::format_number(1.25e-6) == "1.25e-06");
  CHECK(report::format_number(-0.0) == "0");
  CHECK(report::format_number(9876.5) == "9876");
  CHECK(report::format_number(22018.4) == "22,018");
  CHECK(report::format_number(-1234567) == "-1,234,567");
  CHECK(report::format_number(1e15) == "1e+15");
  CHECK(report::format_number(std::nan("")) == "–");
}

TEST_CASE("text of strangers cannot leave its place on a page", "[report]") {
  CHECK(report::escape_html("<a href='x'>\"&\x1b[0m\t\n\xc3\xa9") ==
        "&lt;a href=&#39;x&#39;&gt;&quot;&amp;\xe2\x90\x9b[0m\t\n\xc3\xa9");
}
