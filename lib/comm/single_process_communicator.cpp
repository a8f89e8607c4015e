#include "comm/single_process_communicator.h"

#include <torch/types.h>

#include "base/error.h"
#include "comm/rank_order_reduction.h"

namespace dsft::comm {
namespace {

class SingleProcessCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }

  std::unique_ptr<Work> start_all_reduce(at::Tensor&, ReduceOp) override { return std::make_unique<FinishedWork>(); }

  std::unique_ptr<Work> start_reduce_scatter(at::Tensor& output, const at::Tensor& input) override {
    return copy(output, input);
  }

  std::unique_ptr<Work> start_all_gather(at::Tensor& output, const at::Tensor& input) override {
    return copy(output, input);
  }

  std::unique_ptr<Work> start_broadcast(at::Tensor&, int root) override {
    DSFT_CHECK(root == 0, "broadcast from rank ", root, " of one");
    return std::make_unique<FinishedWork>();
  }

  void barrier() override {}
  std::unique_ptr<Communicator> split(int, int) override { return make_single_process_communicator(); }
  void abort(int, const std::string&) noexcept override {}

 private:
  static std::unique_ptr<Work> copy(at::Tensor& output, const at::Tensor& input) {
    check_slices(input, output, 1);
    at::NoGradGuard no_grad;
    output.copy_(input.view_as(output));
    return std::make_unique<FinishedWork>();
  }
};

}  // namespace

std::unique_ptr<Communicator> make_single_process_communicator() {
  return std::make_unique<SingleProcessCommunicator>();
}

}  // namespace dsft::comm
