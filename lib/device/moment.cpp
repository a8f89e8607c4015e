#include "device/moment.h"

#include <c10/core/impl/VirtualGuardImpl.h>

namespace dsft::device {

Moment::Moment(at::Device device) : time_(std::chrono::steady_clock::now()) {
  if (device.is_cpu()) return;
  event_ = std::make_unique<c10::Event>(device.type(), c10::EventFlag::BACKEND_DEFAULT);  // with the time
  event_->record(c10::impl::VirtualGuardImpl(device.type()).getStream(device));
}

bool Moment::has_passed() const {
  return !event_ || event_->query();
}

double Moment::seconds_since(const Moment& earlier) const {
  if (event_) return earlier.event_->elapsedTime(*event_) * 1e-3;
  return std::chrono::duration<double>(time_ - earlier.time_).count();
}

}  // namespace dsft::device
