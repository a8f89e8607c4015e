#include "report/curve.h"

#include <cmath>

namespace dsft::report {

void Curve::Sum::add(const CurvePoint& other) {
  if (num_steps == 0) point.first_step = other.first_step;
  point.last_step = other.last_step;
  ++num_steps;
  if (!std::isnan(other.value)) {
    values += other.value;
    ++num_values;
  }
  if (!std::isnan(other.deviation)) {
    deviations += other.deviation;
    ++num_deviations;
  }
}

CurvePoint Curve::Sum::mean() const {
  CurvePoint mean = point;
  if (num_values > 0) mean.value = values / static_cast<double>(num_values);
  if (num_deviations > 0) mean.deviation = deviations / static_cast<double>(num_deviations);
  return mean;
}

void Curve::add(int64_t step, double value, double deviation) {
  // an infinite number cannot be drawn and would spoil every mean that it is in
  const double nothing = std::numeric_limits<double>::quiet_NaN();
  if (!std::isfinite(value)) value = nothing;
  if (!std::isnan(value)) latest_ = value;
  open_.add({step, step, value, std::isfinite(deviation) ? deviation : nothing});
  if (open_.num_steps < steps_per_point_) return;
  points_.push_back(open_.mean());
  open_ = Sum();
  if (points_.size() < kMostPoints) return;
  std::vector<CurvePoint> halved;
  for (size_t i = 0; i + 1 < points_.size(); i += 2) {
    Sum pair;
    pair.add(points_[i]);
    pair.add(points_[i + 1]);
    halved.push_back(pair.mean());
  }
  points_ = std::move(halved);
  steps_per_point_ *= 2;
}

std::vector<CurvePoint> Curve::points() const {
  std::vector<CurvePoint> all = points_;
  if (open_.num_steps > 0) all.push_back(open_.mean());
  return all;
}

}  // namespace dsft::report
