#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "report/curve.h"

namespace dsft::report {

/// One line of a chart; its points' deviations are a band around it.
struct ChartSeries {
  std::string label;
  std::vector<CurvePoint> points;
};

/// Numbers over the updates of a run.
struct LineChart {
  std::string title;
  std::string explanation = {};  ///< a sentence below the title
  std::vector<ChartSeries> series;
  bool marks_points = false;                                ///< few points, each of which counts: evaluations
  std::optional<std::pair<double, double>> shows_all = {};  ///< of which the whole is shown, such as 0 to 1
};

/// Round numbers about evenly spaced, the first at or below `least`, the last at or above `most`.
std::vector<double> round_ticks(double least, double most, int about);

/// The chart as a <figure> of a run's page (run_page.h): title, newest numbers, legend, and an inline SVG that tells
/// numbers where the pointer rests on it: each point's, or of many points those of some. Empty where no series has a
/// number.
std::string draw_chart(const LineChart& chart);

}  // namespace dsft::report
