#pragma once

#include <algorithm>
#include <cstddef>

namespace dsft::rewards {

/// For how many samples at once a process of a reward program is asked: one at first, then up to twice as many as it
/// has ever answered at once, but by its pace no more than a quarter of a request's deadline takes.
class RequestSize {
 public:
  explicit RequestSize(double timeout_s) : timeout_s_(timeout_s) {}

  size_t most() const { return most_; }
  void note_answer(size_t num_samples, double seconds) {
    largest_answered_ = std::max(largest_answered_, num_samples);
    const double by_pace = kShare * timeout_s_ * static_cast<double>(num_samples) / std::max(seconds, kLeastSeconds);
    const size_t by_size = 2 * largest_answered_;
    most_ = by_pace >= static_cast<double>(by_size) ? by_size : std::max<size_t>(1, static_cast<size_t>(by_pace));
  }
  void note_failure() { *this = RequestSize(timeout_s_); }

 private:
  static constexpr double kShare = 0.25;
  static constexpr double kLeastSeconds = 1e-9;

  double timeout_s_;
  size_t most_ = 1, largest_answered_ = 0;
};

}  // namespace dsft::rewards
