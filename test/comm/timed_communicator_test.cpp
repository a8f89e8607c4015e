#include "comm/timed_communicator.h"

#include <torch/types.h>

#include <array>
#include <chrono>
#include <thread>

#include "catch_amalgamated.hpp"
#include "comm/thread_ranks.h"

using namespace dsft;

namespace {

// A thread rank's communicator, which lives elsewhere.
class Borrowed final : public comm::Communicator {
 public:
  explicit Borrowed(comm::Communicator& ranks) : ranks_(ranks) {}
  int rank() const override { return ranks_.rank(); }
  int size() const override { return ranks_.size(); }
  std::unique_ptr<comm::Work> start_all_reduce(at::Tensor& tensor, comm::ReduceOp op) override {
    return ranks_.start_all_reduce(tensor, op);
  }
  std::unique_ptr<comm::Work> start_reduce_scatter(at::Tensor& output, const at::Tensor& input) override {
    return ranks_.start_reduce_scatter(output, input);
  }
  std::unique_ptr<comm::Work> start_all_gather(at::Tensor& output, const at::Tensor& input) override {
    return ranks_.start_all_gather(output, input);
  }
  std::unique_ptr<comm::Work> start_broadcast(at::Tensor& tensor, int root) override {
    return ranks_.start_broadcast(tensor, root);
  }
  void barrier() override { ranks_.barrier(); }
  std::unique_ptr<comm::Communicator> split(int color, int key) override { return ranks_.split(color, key); }
  void abort(int exit_code, const std::string& reason) noexcept override { ranks_.abort(exit_code, reason); }

 private:
  comm::Communicator& ranks_;
};

}  // namespace

TEST_CASE("Who waits for another rank knows for how long, from start to stop", "[comm]") {
  std::array<double, 2> seconds{}, seconds_after{};
  comm::run_thread_ranks(2, [&](comm::Communicator& ranks) {
    const auto rank = static_cast<size_t>(ranks.rank());
    comm::WaitTimes times(at::kCPU);
    const auto timed = comm::time_waits(std::make_unique<Borrowed>(ranks), times);
    const auto all_reduce_late = [&] {
      if (rank == 1) std::this_thread::sleep_for(std::chrono::milliseconds(200));
      at::Tensor tensor = at::ones({3});
      timed->all_reduce(tensor);
    };
    all_reduce_late();  // nobody has asked
    timed->barrier();
    times.start();
    all_reduce_late();
    seconds[rank] = comm::total_seconds(times.stop());
    all_reduce_late();
    seconds_after[rank] = comm::total_seconds(times.stop());
  });
  // rank 1 sleeps outside of its collective
  CHECK(seconds[0] > 0.15);
  CHECK(seconds[1] < seconds[0]);
  CHECK(seconds_after[0] == 0);
  CHECK(seconds_after[1] == 0);
}
