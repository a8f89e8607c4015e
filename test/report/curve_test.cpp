#include "report/curve.h"

#include <cmath>

#include "catch_amalgamated.hpp"

using namespace dsft;
using report::Curve;

TEST_CASE("a curve of any length keeps few points, each the mean of its steps", "[report]") {
  for (const int64_t num_steps : {1, 159, 160, 161, 1000, 4097}) {
    Curve curve;
    for (int64_t step = 1; step <= num_steps; ++step) curve.add(step, static_cast<double>(step), 2);
    const auto points = curve.points();
    INFO(num_steps);
    CHECK(points.size() <= Curve::kMostPoints);
    CHECK(curve.latest() == static_cast<double>(num_steps));
    int64_t next = 1;
    for (const report::CurvePoint& point : points) {
      CHECK(point.first_step == next);
      CHECK(point.value == Catch::Approx(static_cast<double>(point.first_step + point.last_step) / 2));
      CHECK(point.deviation == Catch::Approx(2));
      next = point.last_step + 1;
    }
    CHECK(next == num_steps + 1);
  }
}

TEST_CASE("what is no number is a gap, and takes no part in the mean of a point", "[report]") {
  Curve curve;
  curve.add(1, std::nan(""));
  curve.add(2, 5);
  curve.add(3, INFINITY);
  const auto points = curve.points();
  REQUIRE(points.size() == 3);
  CHECK(std::isnan(points[0].value));
  CHECK(points[1].value == 5);
  CHECK(std::isnan(points[1].deviation));
  CHECK(std::isnan(points[2].value));
  CHECK(curve.latest() == 5);
}
