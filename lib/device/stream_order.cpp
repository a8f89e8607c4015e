#include "device/stream_order.h"

#include <c10/core/impl/VirtualGuardImpl.h>

#include "device/device.h"

namespace dsft::device {

std::optional<c10::Stream> side_stream(c10::Device device) {
  if (!is_asynchronous(device)) return std::nullopt;
  return c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device, /*isHighPriority=*/false);
}

c10::Stream current_stream_of(c10::Device device) {
  return c10::impl::VirtualGuardImpl(device.type()).getStream(device);
}

void put_behind(const c10::Stream& later, const c10::Stream& earlier) {
  c10::Event event(earlier.device_type());
  event.record(earlier);
  event.block(later);
}

void record(std::optional<c10::Event>& event, const c10::Stream& stream) {
  if (!event) event.emplace(stream.device_type());
  event->record(stream);
}

}  // namespace dsft::device
