#pragma once

#include <c10/core/Event.h>
#include <c10/core/Stream.h>

#include <optional>

namespace dsft::device {

/// A stream of torch's pool, for work beside the current stream; none where the host does not go on by itself.
std::optional<c10::Stream> side_stream(c10::Device device);

/// The stream that operations on this device go to now.
c10::Stream current_stream_of(c10::Device device);

/// What is enqueued on `later` from now on comes after what has been enqueued on `earlier`.
void put_behind(const c10::Stream& later, const c10::Stream& earlier);

/// Marks the place that a stream has come to, by an event that is made where there is none.
void record(std::optional<c10::Event>& event, const c10::Stream& stream);

}  // namespace dsft::device
