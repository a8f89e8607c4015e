#include "comm/watched_communicator.h"

#include <string>
#include <utility>

namespace dsft::comm {
namespace {

/// What collectives are called, on either device.
struct CallNames {
  const char *all_reduce, *reduce_scatter, *all_gather, *slice, *broadcast, *barrier, *split;
};
constexpr CallNames kControlNames = {"all-reduce", "reduce-scatter", "all-gather", "slice",
                                     "broadcast",  "barrier",        "split"};
constexpr CallNames kDeviceNames = {"NCCL all-reduce", "NCCL reduce-scatter", "NCCL all-gather", "NCCL slice",
                                    "NCCL broadcast",  "NCCL barrier",        "NCCL split"};

/// A collective that was started, until it is known to have ended.
struct Call {
  const char* name;
  int64_t number;
  std::string subject;
};

/// Tells of a call while it is waited for.
class Wait {
 public:
  Wait(watchdog::Heart& heart, const Call& call) : heart_(heart) { heart_.waits(call.name, call.number, call.subject); }
  ~Wait() { heart_.waits_no_more(); }
  Wait(const Wait&) = delete;
  Wait& operator=(const Wait&) = delete;

 private:
  watchdog::Heart& heart_;
};

class WatchedWork final : public Work {
 public:
  WatchedWork(std::unique_ptr<Work> work, watchdog::Heart& heart, Call call)
      : work_(std::move(work)), heart_(heart), call_(std::move(call)) {}
  void wait() override {
    const Wait wait(heart_, call_);
    work_->wait();
  }

 private:
  std::unique_ptr<Work> work_;
  watchdog::Heart& heart_;
  Call call_;
};

class WatchedCommunicator final : public Communicator {
 public:
  WatchedCommunicator(std::unique_ptr<Communicator> communicator, watchdog::Heart& heart, const CallNames& names)
      : communicator_(std::move(communicator)), heart_(heart), names_(names) {}

  int rank() const override { return communicator_->rank(); }
  int size() const override { return communicator_->size(); }
  void name_next(std::string_view subject) override { subject_ = subject; }

  std::unique_ptr<Work> start_all_reduce(at::Tensor& tensor, ReduceOp op) override {
    return start(names_.all_reduce, [&] { return communicator_->start_all_reduce(tensor, op); });
  }
  std::unique_ptr<Work> start_reduce_scatter(at::Tensor& output, const at::Tensor& input) override {
    return start(names_.reduce_scatter, [&] { return communicator_->start_reduce_scatter(output, input); });
  }
  std::unique_ptr<Work> start_all_gather(at::Tensor& output, const at::Tensor& input) override {
    return start(names_.all_gather, [&] { return communicator_->start_all_gather(output, input); });
  }
  at::Tensor make_slice(int64_t size, const at::TensorOptions& options) override {
    const Call call = next_call(names_.slice);
    const Wait wait(heart_, call);
    return communicator_->make_slice(size, options);
  }
  bool reads_slices_in_place() const override { return communicator_->reads_slices_in_place(); }
  std::unique_ptr<Work> start_broadcast(at::Tensor& tensor, int root) override {
    return start(names_.broadcast, [&] { return communicator_->start_broadcast(tensor, root); });
  }
  void barrier() override {
    const Call call = next_call(names_.barrier);
    const Wait wait(heart_, call);
    communicator_->barrier();
  }
  void check() override { communicator_->check(); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    const Call call = next_call(names_.split);
    const Wait wait(heart_, call);
    return std::make_unique<WatchedCommunicator>(communicator_->split(color, key), heart_, names_);
  }
  void abort(int exit_code, const std::string& reason) noexcept override { communicator_->abort(exit_code, reason); }

 private:
  Call next_call(const char* name) {
    Call call{name, ++num_calls_, std::exchange(subject_, {})};
    heart_.started(call.name, call.number, call.subject);
    return call;
  }

  // a call may already wait for its peers where it is started
  template <typename Start>
  std::unique_ptr<Work> start(const char* name, Start start_call) {
    Call call = next_call(name);
    std::unique_ptr<Work> work;
    {
      const Wait wait(heart_, call);
      work = start_call();
    }
    return std::make_unique<WatchedWork>(std::move(work), heart_, std::move(call));
  }

  std::unique_ptr<Communicator> communicator_;
  watchdog::Heart& heart_;
  const CallNames& names_;
  int64_t num_calls_ = 0;
  std::string subject_;  ///< of the next call
};

}  // namespace

std::unique_ptr<Communicator> watch(std::unique_ptr<Communicator> communicator, watchdog::Heart& heart,
                                    WatchedRanks ranks) {
  if (communicator == nullptr || !heart.is_watched()) return communicator;
  return std::make_unique<WatchedCommunicator>(std::move(communicator), heart,
                                               ranks == WatchedRanks::kDevice ? kDeviceNames : kControlNames);
}

}  // namespace dsft::comm
