#include "comm/timed_communicator.h"

namespace dsft::comm {
namespace {

class TimedWork final : public Work {
 public:
  TimedWork(std::unique_ptr<Work> work, WaitTimes& times) : work_(std::move(work)), times_(times) {}
  void wait() override {
    times_.during([this] { work_->wait(); });
  }

 private:
  std::unique_ptr<Work> work_;
  WaitTimes& times_;
};

class TimedCommunicator final : public Communicator {
 public:
  TimedCommunicator(std::unique_ptr<Communicator> communicator, WaitTimes& times)
      : communicator_(std::move(communicator)), times_(times) {}

  int rank() const override { return communicator_->rank(); }
  int size() const override { return communicator_->size(); }
  void name_next(std::string_view subject) override { communicator_->name_next(subject); }

  std::unique_ptr<Work> start_all_reduce(at::Tensor& tensor, ReduceOp op) override {
    return timed([&] { return communicator_->start_all_reduce(tensor, op); });
  }
  std::unique_ptr<Work> start_reduce_scatter(at::Tensor& output, const at::Tensor& input) override {
    return timed([&] { return communicator_->start_reduce_scatter(output, input); });
  }
  std::unique_ptr<Work> start_all_gather(at::Tensor& output, const at::Tensor& input) override {
    return timed([&] { return communicator_->start_all_gather(output, input); });
  }
  at::Tensor make_slice(int64_t size, const at::TensorOptions& options) override {
    return communicator_->make_slice(size, options);
  }
  bool reads_slices_in_place() const override { return communicator_->reads_slices_in_place(); }
  std::unique_ptr<Work> start_broadcast(at::Tensor& tensor, int root) override {
    return timed([&] { return communicator_->start_broadcast(tensor, root); });
  }
  void barrier() override {
    times_.during([this] { communicator_->barrier(); });
  }
  void check() override { communicator_->check(); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    return std::make_unique<TimedCommunicator>(communicator_->split(color, key), times_);
  }
  void abort(int exit_code, const std::string& reason) noexcept override { communicator_->abort(exit_code, reason); }

 private:
  // a call may already wait for its peers where it is started
  template <typename Start>
  std::unique_ptr<Work> timed(Start start) {
    return std::make_unique<TimedWork>(times_.during(start), times_);
  }

  std::unique_ptr<Communicator> communicator_;
  WaitTimes& times_;
};

}  // namespace

std::vector<WaitTimes::Wait> WaitTimes::stop() {
  std::vector<Wait> waits;
  for (size_t i = 1; i < moments_.size(); i += 2)
    waits.emplace_back(std::move(moments_[i - 1]), std::move(moments_[i]));
  moments_.clear();
  is_on_ = false;
  return waits;
}

void WaitTimes::note() {
  if (is_on_) moments_.emplace_back(device_);
}

double total_seconds(const std::vector<WaitTimes::Wait>& waits) {
  double seconds = 0;
  for (const auto& [begin, end] : waits) seconds += end.seconds_since(begin);
  return seconds;
}

std::unique_ptr<Communicator> time_waits(std::unique_ptr<Communicator> communicator, WaitTimes& times) {
  if (communicator == nullptr || communicator->size() == 1) return communicator;
  return std::make_unique<TimedCommunicator>(std::move(communicator), times);
}

}  // namespace dsft::comm
