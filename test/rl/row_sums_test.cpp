#include "rl/row_sums.h"

#include "catch_amalgamated.hpp"
#include "device/device.h"

using namespace dsft;

namespace {

PolicyTargets rows_of(const std::vector<int64_t>& lengths, int64_t behind, at::Device device) {
  PolicyTargets policy;
  std::vector<int64_t> rows, starts = {0};
  for (size_t r = 0; r < lengths.size(); ++r) {
    rows.insert(rows.end(), static_cast<size_t>(lengths[r]), static_cast<int64_t>(r));
    starts.push_back(starts.back() + lengths[r]);
  }
  rows.insert(rows.end(), static_cast<size_t>(behind), 0);
  policy.rows = torch::tensor(rows, at::kLong).to(device);
  policy.row_starts = torch::tensor(starts, at::kLong).to(device);
  return policy;
}

}  // namespace

TEST_CASE("Sums of rows and their values spread to tokens are each other's gradient", "[rl][gpu]") {
  const at::Device device(device::has_cuda() ? at::kCUDA : at::kCPU);
  torch::manual_seed(2);
  const auto policy = rows_of({5, 0, 700, 1}, 3, device);
  const at::Tensor tokens = torch::randn({709}).to(device).requires_grad_(true);
  const at::Tensor sums = rl::sum_rows(tokens, policy);
  const at::Tensor host = tokens.detach().cpu().to(at::kDouble);
  const at::Tensor expected = torch::stack(
      {host.narrow(0, 0, 5).sum(), torch::zeros({}, at::kDouble), host.narrow(0, 5, 700).sum(), host[705]});
  CHECK((sums.detach().cpu() - expected).abs().max().item<double>() < 1e-4);
  const at::Tensor factors = torch::tensor({2.f, 3.f, -1.f, 0.5f}).to(device);
  (sums * factors).sum().backward();
  // what lies behind the last row weighs nothing in a loss; here it has its row's gradient
  CHECK(torch::equal(tokens.grad(), factors.index_select(0, policy.rows)));

  const at::Tensor values = torch::randn({4}).to(device).requires_grad_(true);
  const at::Tensor spread = rl::spread_rows(values, policy);
  CHECK(torch::equal(spread.detach(), values.detach().index_select(0, policy.rows)));
  (spread * tokens.detach()).sum().backward();
  CHECK((values.grad().cpu() - expected).abs().max().item<double>() < 1e-4);
}

TEST_CASE("Rows without a token sum to 0", "[rl]") {
  const auto policy = rows_of({0, 0}, 0, at::kCPU);
  CHECK(rl::sum_rows(torch::empty({0}), policy).equal(torch::zeros({2})));
}
