#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

namespace dsft::report {

/// One point of a curve: the mean over some updates, one behind another.
struct CurvePoint {
  int64_t first_step = 0, last_step = 0;
  double value = std::numeric_limits<double>::quiet_NaN();      ///< NaN: there was none
  double deviation = std::numeric_limits<double>::quiet_NaN();  ///< on either side of it; NaN: not known
};

/// The course of a number over a run of any length in at most kMostPoints points: where there are more, neighbours
/// become their mean, the whole curve at the same resolution.
class Curve final {
 public:
  static constexpr size_t kMostPoints = 160;

  /// Steps ascend.
  void add(int64_t step, double value, double deviation = std::numeric_limits<double>::quiet_NaN());

  /// The last one may be of fewer updates than the others.
  std::vector<CurvePoint> points() const;
  /// The newest number; NaN where there is none.
  double latest() const { return latest_; }

 private:
  /// A point under way.
  struct Sum {
    CurvePoint point;
    int64_t num_steps = 0, num_values = 0, num_deviations = 0;
    double values = 0, deviations = 0;
    void add(const CurvePoint& other);
    CurvePoint mean() const;
  };

  std::vector<CurvePoint> points_;
  Sum open_;
  int64_t steps_per_point_ = 1;
  double latest_ = std::numeric_limits<double>::quiet_NaN();
};

}  // namespace dsft::report
