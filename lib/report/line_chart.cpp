#include "report/line_chart.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>

#include "base/error.h"
#include "report/html_text.h"

namespace dsft::report {
namespace {

constexpr double kWidth = 460, kHeight = 190;
constexpr double kLeft = 46, kRight = 10, kTop = 8, kBottom = 22;  // margins around the plot
constexpr size_t kMostFields = 40;                                 // over which the pointer can rest
constexpr int kNumColours = 8;                                     // of run_page's style

std::string coordinate(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f", value);
  return text;
}

bool has_value(const CurvePoint& point) {
  return !std::isnan(point.value);
}

bool has_band(const CurvePoint& point) {
  return has_value(point) && !std::isnan(point.deviation);
}

/// From numbers to places on the drawing.
struct Scale {
  std::vector<double> ticks;  // of the y-axis, which ends with them
  double first_step = 0, last_step = 1;

  double x(double step) const {
    return kLeft + (step - first_step) / (last_step - first_step) * (kWidth - kLeft - kRight);
  }
  double y(double value) const {
    const double share = (value - ticks.front()) / (ticks.back() - ticks.front());
    return kHeight - kBottom - share * (kHeight - kTop - kBottom);
  }
  std::string place(double step, double value) const { return coordinate(x(step)) + " " + coordinate(y(value)); }
};

Scale scale_of(const LineChart& chart) {
  Scale scale;
  double least = INFINITY, most = -INFINITY;
  scale.first_step = INFINITY;
  scale.last_step = -INFINITY;
  for (const ChartSeries& series : chart.series) {
    for (const CurvePoint& point : series.points) {
      if (!has_value(point)) continue;
      const double deviation = has_band(point) ? point.deviation : 0;
      least = std::min(least, point.value - deviation);
      most = std::max(most, point.value + deviation);
      scale.first_step = std::min(scale.first_step, static_cast<double>(point.last_step));
      scale.last_step = std::max(scale.last_step, static_cast<double>(point.last_step));
    }
  }
  if (chart.shows_all) {
    least = std::min(least, chart.shows_all->first);
    most = std::max(most, chart.shows_all->second);
  }
  if (least == 0 && most == 0) {  // what could only rise
    most = 1;
  } else if (most - least < 1e-12 * std::max(1.0, std::abs(most))) {  // a level line stands in the middle
    const double room = std::abs(most) * 0.1;
    least -= room;
    most += room;
  }
  scale.ticks = round_ticks(least, most, 4);
  if (scale.last_step <= scale.first_step) {
    scale.first_step -= 1;
    scale.last_step += 1;
  }
  return scale;
}

std::string draw_axes(const Scale& scale) {
  std::string svg;
  for (const double tick : scale.ticks) {
    const std::string y = coordinate(scale.y(tick));
    svg += concat("<line class=\"grid\" x1=\"", kLeft, "\" x2=\"", kWidth - kRight, "\" y1=\"", y, "\" y2=\"", y,
                  "\"/><text class=\"tick\" text-anchor=\"end\" x=\"", kLeft - 6, "\" y=\"",
                  coordinate(scale.y(tick) + 3.5), "\">", format_number(tick), "</text>");
  }
  for (const double step : round_ticks(scale.first_step, scale.last_step, 6)) {
    if (step < scale.first_step || step > scale.last_step || step != std::floor(step)) continue;
    svg += concat("<text class=\"tick\" text-anchor=\"middle\" x=\"", coordinate(scale.x(step)), "\" y=\"", kHeight - 6,
                  "\">", static_cast<int64_t>(step), "</text>");
  }
  return svg;
}

// Stretches without a gap.
template <typename IsThere, typename Draw>
void for_each_stretch(const std::vector<CurvePoint>& points, const IsThere& is_there, const Draw& draw) {
  for (size_t begin = 0; begin < points.size();) {
    if (!is_there(points[begin])) {
      ++begin;
      continue;
    }
    size_t end = begin;
    while (end < points.size() && is_there(points[end])) ++end;
    draw(begin, end);
    begin = end;
  }
}

std::string draw_band(const ChartSeries& series, const Scale& scale, int colour) {
  std::string path;
  for_each_stretch(series.points, has_band, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const CurvePoint& point = series.points[i];
      path +=
          (i == begin ? "M" : "L") + scale.place(static_cast<double>(point.last_step), point.value + point.deviation);
    }
    for (size_t i = end; i-- > begin;) {
      const CurvePoint& point = series.points[i];
      path += "L" + scale.place(static_cast<double>(point.last_step), point.value - point.deviation);
    }
    path += "Z";
  });
  return path.empty() ? "" : concat("<path class=\"band c", colour, "\" d=\"", path, "\"/>");
}

std::string draw_line(const ChartSeries& series, const Scale& scale, int colour, bool marks_points) {
  std::string path, marks;
  for_each_stretch(series.points, has_value, [&](size_t begin, size_t end) {
    for (size_t i = begin; i < end; ++i) {
      const CurvePoint& point = series.points[i];
      const auto step = static_cast<double>(point.last_step);
      path += (i == begin ? "M" : "L") + scale.place(step, point.value);
      if (marks_points || end - begin == 1)
        marks += concat("<circle class=\"mark c", colour, "\" r=\"3\" cx=\"", coordinate(scale.x(step)), "\" cy=\"",
                        coordinate(scale.y(point.value)), "\"/>");
    }
  });
  return concat("<path class=\"line c", colour, "\" d=\"", path, "\"/>", marks);
}

std::string describe(const CurvePoint& point) {
  return format_number(point.value) + (has_band(point) ? " ± " + format_number(point.deviation) : "");
}

// Evenly spread, the newest among them: fields are most of a chart's bytes.
void keep_some(std::map<int64_t, std::string>& texts) {
  const size_t stride = (texts.size() + kMostFields - 1) / kMostFields;
  size_t to_end = texts.size();
  std::erase_if(texts, [&](const auto&) { return --to_end % stride != 0; });
}

// Over the plot, fields that say the numbers of the point that they are around.
std::string draw_hover_fields(const LineChart& chart, const Scale& scale) {
  std::map<int64_t, std::string> texts;
  for (const ChartSeries& series : chart.series) {
    for (const CurvePoint& point : series.points) {
      if (!has_value(point)) continue;
      std::string& text = texts[point.last_step];
      if (text.empty())
        text = point.first_step == point.last_step ? concat("update ", point.last_step)
                                                   : concat("updates ", point.first_step, " to ", point.last_step);
      text += "\n" + series.label + ": " + describe(point);
    }
  }
  keep_some(texts);
  std::string svg;
  for (auto place = texts.begin(); place != texts.end(); ++place) {
    const double x = scale.x(static_cast<double>(place->first));
    const auto next = std::next(place);
    const double left =
        place == texts.begin() ? kLeft : (x + scale.x(static_cast<double>(std::prev(place)->first))) / 2;
    const double right = next == texts.end() ? kWidth - kRight : (x + scale.x(static_cast<double>(next->first))) / 2;
    svg += concat("<g class=\"at\"><rect x=\"", coordinate(left), "\" y=\"", kTop, "\" width=\"",
                  coordinate(right - left), "\" height=\"", kHeight - kTop - kBottom, "\"/><path d=\"M", coordinate(x),
                  " ", kTop, "V", kHeight - kBottom, "\"/><title>", escape_html(place->second), "</title></g>");
  }
  return svg;
}

double newest(const ChartSeries& series) {
  for (auto point = series.points.rbegin(); point != series.points.rend(); ++point)
    if (has_value(*point)) return point->value;
  return std::nan("");
}

std::string draw_legend(const LineChart& chart) {
  std::string html;
  for (size_t i = 0; i < chart.series.size(); ++i) {
    const std::string value = "<b>" + format_number(newest(chart.series[i])) + "</b>";
    html += chart.series.size() == 1 ? concat("<span>newest ", value, "</span>")
                                     : concat("<span><i class=\"c", i % kNumColours, "\"></i>",
                                              escape_html(chart.series[i].label), " ", value, "</span>");
  }
  return html;
}

}  // namespace

std::vector<double> round_ticks(double least, double most, int about) {
  const double rough = (most - least) / about, power = std::pow(10.0, std::floor(std::log10(rough)));
  double step = 10 * power;
  for (const double factor : {5.0, 2.0, 1.0})
    if (factor * power >= rough * 0.999) step = factor * power;
  std::vector<double> ticks;
  const double first = std::floor(least / step + 1e-9), last = std::ceil(most / step - 1e-9);
  for (double i = first; i <= last; ++i) ticks.push_back(i * step);
  return ticks;
}

std::string draw_chart(const LineChart& chart) {
  const bool has_any = std::any_of(chart.series.begin(), chart.series.end(), [](const ChartSeries& series) {
    return std::any_of(series.points.begin(), series.points.end(), has_value);
  });
  if (!has_any) return "";
  const Scale scale = scale_of(chart);
  std::string html =
      concat("<figure><figcaption><h3>", escape_html(chart.title), "</h3><p>", escape_html(chart.explanation),
             "</p><p class=\"legend\">", draw_legend(chart), "</p></figcaption><svg role=\"img\" viewBox=\"0 0 ",
             kWidth, " ", kHeight, "\">", draw_axes(scale));
  const auto colour = [](size_t i) { return static_cast<int>(i % kNumColours); };
  for (size_t i = 0; i < chart.series.size(); ++i) html += draw_band(chart.series[i], scale, colour(i));
  for (size_t i = 0; i < chart.series.size(); ++i)
    html += draw_line(chart.series[i], scale, colour(i), chart.marks_points);
  return html + draw_hover_fields(chart, scale) + "</svg></figure>\n";
}

}  // namespace dsft::report
