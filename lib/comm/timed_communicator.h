#pragma once

#include <c10/core/Device.h>

#include <memory>
#include <utility>
#include <vector>

#include "comm/communicator.h"
#include "device/moment.h"

namespace dsft::comm {

/// For how long the work of a device stands still in collectives: what no computation hides.
class WaitTimes {
 public:
  explicit WaitTimes(c10::Device device) : device_(device) {}

  /// A wait, from its beginning to its end on the device.
  using Wait = std::pair<device::Moment, device::Moment>;

  /// From now on waits are noted.
  void start() { is_on_ = true; }
  /// Gives them, and notes no more.
  std::vector<Wait> stop();

  /// Notes what the device waits for during this call.
  template <typename Call>
  auto during(Call call) {
    const Noted noted(*this);
    return call();
  }

 private:
  class Noted {
   public:
    explicit Noted(WaitTimes& times) : times_(times) { times_.note(); }
    ~Noted() { times_.note(); }
    Noted(const Noted&) = delete;
    Noted& operator=(const Noted&) = delete;

   private:
    WaitTimes& times_;
  };
  void note();

  c10::Device device_;
  bool is_on_ = false;
  std::vector<device::Moment> moments_;  // of begins and ends by turns
};

/// Sum of waits that have passed (device::Moment::seconds_since), in seconds.
double total_seconds(const std::vector<WaitTimes::Wait>& waits);

/// The same communicator, whose collectives note what they wait in `times`, which must outlive it. Null stays null.
std::unique_ptr<Communicator> time_waits(std::unique_ptr<Communicator> communicator, WaitTimes& times);

}  // namespace dsft::comm
