#include "comm/thread_ranks.h"

#include <torch/types.h>

#include <ATen/Parallel.h>

#include <algorithm>
#include <condition_variable>
#include <exception>
#include <map>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "comm/rank_order_reduction.h"

namespace dsft::comm {
namespace {

/// What one rank brings to a collective.
struct Contribution {
  std::string call;  ///< function, type and sizes: must be equal on all ranks
  at::Tensor tensor;
  int color = 0;
  int key = 0;
};

/// The meeting point of the ranks of one communicator.
class Group {
 public:
  explicit Group(int size) : contributions_(static_cast<size_t>(size)) {}

  int size() const { return static_cast<int>(contributions_.size()); }

  /// Publishes a contribution, waits for all, runs `read` on everyone's, and waits until all have read.
  template <typename Read>
  void meet(int rank, Contribution contribution, Read read) {
    contributions_[static_cast<size_t>(rank)] = std::move(contribution);
    wait_for_all();
    for (int other = 0; other < size(); ++other) {
      if (contributions_[other].call == contributions_[rank].call) continue;
      fail(ErrorKind::kCommunication, "the ranks call different collectives: rank ", rank, " ",
           contributions_[rank].call, ", rank ", other, " ", contributions_[other].call);
    }
    read(contributions_);
    wait_for_all();
  }

  /// The group of the ranks with this color; made by whoever asks first.
  std::shared_ptr<Group> child(int color, int size) {
    std::lock_guard lock(mutex_);
    std::shared_ptr<Group>& group = children_[{num_splits_, color}];
    if (!group) group = std::make_shared<Group>(size);
    return group;
  }

  void finish_split(int rank) {
    if (rank == 0) ++num_splits_;
  }

  void abort(const std::string& reason) {
    std::map<std::pair<int, int>, std::shared_ptr<Group>> children;
    {
      std::lock_guard lock(mutex_);
      if (!is_aborted_) abort_reason_ = reason;
      is_aborted_ = true;
      children = children_;
    }
    changed_.notify_all();
    for (auto& [color, group] : children) group->abort(reason);
  }

 private:
  void wait_for_all() {
    std::unique_lock lock(mutex_);
    const int64_t round = round_;
    if (++num_arrived_ == size()) {
      num_arrived_ = 0;
      ++round_;
      changed_.notify_all();
    }
    changed_.wait(lock, [&] { return round_ != round || is_aborted_; });
    if (round_ == round) fail(ErrorKind::kCommunication, "a collective was ended by another rank: ", abort_reason_);
  }

  std::vector<Contribution> contributions_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int num_arrived_ = 0;
  int64_t round_ = 0;
  bool is_aborted_ = false;
  std::string abort_reason_;
  int num_splits_ = 0;
  std::map<std::pair<int, int>, std::shared_ptr<Group>> children_;  ///< by split and color
};

std::string call_name(const char* function, const at::Tensor& tensor, int argument = 0) {
  return concat(function, "(", argument, ") of ", at::toString(tensor.scalar_type()), " x ", tensor.numel());
}

class ThreadCommunicator final : public Communicator {
 public:
  ThreadCommunicator(std::shared_ptr<Group> group, int rank) : group_(std::move(group)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return group_->size(); }

  std::unique_ptr<Work> start_all_reduce(at::Tensor& tensor, ReduceOp op) override {
    check_cpu_tensor(tensor, "the tensor");
    at::Tensor result = at::empty_like(tensor);
    meet(call_name("all_reduce", tensor, static_cast<int>(op)), tensor, [&](const auto& contributions) {
      std::vector<at::Tensor> all;
      for (const Contribution& contribution : contributions) all.push_back(contribution.tensor.view_as(tensor));
      reduce_in_rank_order(result, all, op);
    });
    return finish_with_copy(tensor, result);
  }

  std::unique_ptr<Work> start_reduce_scatter(at::Tensor& output, const at::Tensor& input) override {
    check_cpu_tensor(output, "the output");
    check_cpu_tensor(input, "the input");
    check_slices(input, output, size());
    at::Tensor result = at::empty_like(output);
    meet(call_name("reduce_scatter", input), input, [&](const auto& contributions) {
      std::vector<at::Tensor> slices;
      for (const Contribution& contribution : contributions) {
        slices.push_back(contribution.tensor.view(-1).narrow(0, rank_ * output.numel(), output.numel()));
      }
      reduce_in_rank_order(result, slices, ReduceOp::kSum);
    });
    return finish_with_copy(output, result);
  }

  std::unique_ptr<Work> start_all_gather(at::Tensor& output, const at::Tensor& input) override {
    check_cpu_tensor(output, "the output");
    check_cpu_tensor(input, "the input");
    check_slices(output, input, size());
    at::Tensor result = at::empty_like(output);
    meet(call_name("all_gather", input), input, [&](const auto& contributions) {
      for (int rank = 0; rank < size(); ++rank) {
        result.view(-1).narrow(0, rank * input.numel(), input.numel()).copy_(contributions[rank].tensor.view(-1));
      }
    });
    return finish_with_copy(output, result);
  }

  std::unique_ptr<Work> start_broadcast(at::Tensor& tensor, int root) override {
    check_cpu_tensor(tensor, "the tensor");
    DSFT_CHECK(root >= 0 && root < size(), "broadcast from rank ", root, " of ", size());
    at::Tensor result;
    meet(call_name("broadcast", tensor, root), tensor,
         [&](const auto& contributions) { result = contributions[root].tensor.detach().clone().view_as(tensor); });
    return finish_with_copy(tensor, result);
  }

  void barrier() override {
    group_->meet(rank_, {.call = "barrier", .tensor = {}}, [](const auto&) {});
  }

  std::unique_ptr<Communicator> split(int color, int key) override {
    std::shared_ptr<Group> child;
    int child_rank = 0;
    group_->meet(rank_, {.call = "split", .tensor = {}, .color = color, .key = key}, [&](const auto& contributions) {
      int child_size = 0;
      for (int rank = 0; rank < size(); ++rank) {
        if (contributions[rank].color != color) continue;
        ++child_size;
        child_rank += std::pair(contributions[rank].key, rank) < std::pair(key, rank_);
      }
      child = group_->child(color, child_size);
    });
    // a second meeting, so that no rank can start the next split while others still look up this one's groups
    group_->meet(rank_, {.call = "split", .tensor = {}}, [&](const auto&) { group_->finish_split(rank_); });
    return std::make_unique<ThreadCommunicator>(std::move(child), child_rank);
  }

  void abort(int, const std::string& reason) noexcept override { group_->abort(reason); }

 private:
  template <typename Read>
  void meet(std::string call, const at::Tensor& tensor, Read read) {
    at::NoGradGuard no_grad;
    group_->meet(rank_, {.call = std::move(call), .tensor = tensor}, read);
  }

  static std::unique_ptr<Work> finish_with_copy(at::Tensor& target, const at::Tensor& result) {
    at::NoGradGuard no_grad;
    target.copy_(result);
    return std::make_unique<FinishedWork>();
  }

  std::shared_ptr<Group> group_;
  int rank_;
};

}  // namespace

void run_thread_ranks(int num_ranks, const std::function<void(Communicator&)>& body) {
  const auto group = std::make_shared<Group>(num_ranks);
  const int num_threads_before = at::get_num_threads();
  std::mutex mutex;
  std::exception_ptr first_exception;
  const auto run_rank = [&](int rank) {
    try {
      at::set_num_threads(1);
      ThreadCommunicator communicator(group, rank);
      body(communicator);
    } catch (...) {
      {
        std::lock_guard lock(mutex);
        if (!first_exception) first_exception = std::current_exception();
      }
      group->abort(concat("rank ", rank, " failed"));
    }
  };
  std::vector<std::thread> threads;
  for (int rank = 0; rank < num_ranks; ++rank) threads.emplace_back(run_rank, rank);
  for (std::thread& thread : threads) thread.join();
  at::set_num_threads(num_threads_before);
  if (first_exception) std::rethrow_exception(first_exception);
}

}  // namespace dsft::comm
