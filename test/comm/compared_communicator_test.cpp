#include "comm/compared_communicator.h"

#include <torch/types.h>

#include <stdlib.h>

#include <atomic>
#include <functional>
#include <string>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "comm/thread_ranks.h"
#include "support/require_error.h"

using namespace dsft;
using comm::Communicator;

namespace {

// Thread ranks compare calls by themselves; with one that takes any call, what is found is found by the comparison.
class SilentCommunicator final : public Communicator {
 public:
  explicit SilentCommunicator(Communicator& ranks) : ranks_(ranks) {}
  int rank() const override { return ranks_.rank(); }
  int size() const override { return ranks_.size(); }
  std::unique_ptr<comm::Work> start_all_reduce(at::Tensor&, comm::ReduceOp) override { return done(); }
  std::unique_ptr<comm::Work> start_reduce_scatter(at::Tensor&, const at::Tensor&) override { return done(); }
  std::unique_ptr<comm::Work> start_all_gather(at::Tensor&, const at::Tensor&) override { return done(); }
  std::unique_ptr<comm::Work> start_broadcast(at::Tensor&, int) override { return done(); }
  void barrier() override {}
  std::unique_ptr<Communicator> split(int, int) override { return std::make_unique<SilentCommunicator>(ranks_); }
  void abort(int, const std::string&) noexcept override {}

 private:
  static std::unique_ptr<comm::Work> done() { return std::make_unique<comm::FinishedWork>(); }
  Communicator& ranks_;
};

// What the body's collectives give on three ranks that compare them.
void compare_on_threads(const std::function<void(Communicator&)>& body) {
  comm::run_thread_ranks(3, [&](Communicator& ranks) {
    auto comparison = std::make_shared<comm::CallComparison>(ranks.split(0, ranks.rank()));
    const auto compared = comm::compare_calls(std::make_unique<SilentCommunicator>(ranks), std::move(comparison));
    body(*compared);
  });
}

void require_mismatch(std::initializer_list<std::string> parts, const std::function<void(Communicator&)>& body) {
  test::require_error(ErrorKind::kCommunication, parts, [&] { compare_on_threads(body); });
}

}  // namespace

TEST_CASE("Ranks that call the same collectives pass a comparison, also in parts of them", "[comm]") {
  std::atomic<int> num_finished = 0;
  compare_on_threads([&](Communicator& communicator) {
    for (int i = 0; i < 3; ++i) {
      at::Tensor tensor = at::ones({2, 3});
      communicator.name_next("a tensor");
      communicator.all_reduce(tensor);
      communicator.barrier();
    }
    // the two parts may differ
    const auto part = communicator.split(communicator.rank() == 2 ? 1 : 0, communicator.rank());
    at::Tensor tensor = at::ones({communicator.rank() == 2 ? 5 : 4});
    part->broadcast(tensor, 0);
    communicator.barrier();
    ++num_finished;
  });
  CHECK(num_finished == 3);
}

TEST_CASE("Ranks that call different functions are told each rank's call", "[comm]") {
  require_mismatch({"rank 0, 2: all-reduce (sum) #2 of Float [4], the norm", "rank 1: barrier #2"},
                   [](Communicator& communicator) {
                     communicator.barrier();
                     at::Tensor tensor = at::ones({4});
                     if (communicator.rank() == 1) return communicator.barrier();
                     communicator.name_next("the norm");
                     communicator.all_reduce(tensor);
                   });
  require_mismatch(
      {"rank 0: all-reduce (maximum) #1", "rank 1, 2: all-reduce (sum) #1"}, [](Communicator& communicator) {
        at::Tensor tensor = at::ones({4});
        communicator.all_reduce(tensor, communicator.rank() == 0 ? comm::ReduceOp::kMax : comm::ReduceOp::kSum);
      });
}

TEST_CASE("Ranks that call with other shapes or types are told each rank's", "[comm]") {
  require_mismatch({"rank 0, 1: all-gather #1 of Float [4]", "rank 2: all-gather #1 of Float [2, 2]"},
                   [](Communicator& communicator) {
                     const at::Tensor own = communicator.rank() == 2 ? at::ones({2, 2}) : at::ones({4});
                     at::Tensor all = at::empty({12});
                     communicator.all_gather(all, own);
                   });
  require_mismatch({"broadcast (from rank 0) #1 of Half [3]", "broadcast (from rank 0) #1 of BFloat16 [3]"},
                   [](Communicator& communicator) {
                     at::Tensor tensor = at::ones({3}, communicator.rank() == 0 ? at::kHalf : at::kBFloat16);
                     communicator.broadcast(tensor, 0);
                   });
}

TEST_CASE("Ranks that call for other tensors are told their names", "[comm]") {
  require_mismatch(
      {"rank 0, 2: reduce-scatter #1 of Float [3], layers.1", "rank 1: reduce-scatter #1 of Float [3], layers.0"},
      [](Communicator& communicator) {
        at::Tensor slice = at::empty({1});
        communicator.name_next(communicator.rank() == 1 ? "layers.0" : "layers.1");
        communicator.reduce_scatter(slice, at::ones({3}));
      });
}

TEST_CASE("A rank that has ended keeps nobody waiting", "[comm]") {
  require_mismatch({"rank 0: nothing: it has ended", "rank 1, 2: all-reduce (sum) #2 of Long [1]"},
                   [](Communicator& communicator) {
                     communicator.barrier();
                     at::Tensor tensor = at::ones({1}, at::kLong);
                     if (communicator.rank() > 0) communicator.all_reduce(tensor);
                   });
}

TEST_CASE("Ranks whose calls go to different communicators are told so", "[comm]") {
  test::require_error(ErrorKind::kCommunication, {"rank 0: NCCL barrier #1", "rank 1: barrier #1"}, [] {
    comm::run_thread_ranks(2, [](Communicator& ranks) {
      const auto comparison = std::make_shared<comm::CallComparison>(ranks.split(0, ranks.rank()));
      const auto control = comm::compare_calls(std::make_unique<SilentCommunicator>(ranks), comparison);
      const auto device = comm::compare_calls(std::make_unique<SilentCommunicator>(ranks), comparison, "NCCL ");
      (ranks.rank() == 0 ? device : control)->barrier();
    });
  });
}

TEST_CASE("Calls are compared where the environment asks for it", "[comm]") {
  comm::run_thread_ranks(2, [](Communicator& ranks) {
    if (comm::make_call_comparison(ranks)) throw std::runtime_error("compares without being asked");
  });
  ::setenv("DSFT_DEBUG_COLLECTIVES", "1", 1);
  comm::run_thread_ranks(2, [](Communicator& ranks) {
    if (!comm::make_call_comparison(ranks)) throw std::runtime_error("does not compare");
  });
  ::unsetenv("DSFT_DEBUG_COLLECTIVES");
}
