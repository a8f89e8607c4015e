#pragma once

#include <c10/core/Device.h>
#include <c10/core/Event.h>

#include <chrono>
#include <memory>

namespace dsft::device {

/// When a device is done with what was enqueued before this was made, which the host does not wait for. On the CPU,
/// which works at once: when this was made.
class Moment {
 public:
  explicit Moment(at::Device device);

  /// Whether it has passed; the device is not waited for.
  bool has_passed() const;

  /// Seconds from `earlier` to this. Both must have passed: something that was enqueued later has been waited for.
  double seconds_since(const Moment& earlier) const;

 private:
  std::chrono::steady_clock::time_point time_;
  std::unique_ptr<c10::Event> event_;  // null on the CPU
};

}  // namespace dsft::device
