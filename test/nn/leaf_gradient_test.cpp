#include "nn/leaf_gradient.h"

#include <torch/types.h>

#include <limits>

#include "catch_amalgamated.hpp"
#include "device/device.h"

using namespace dsft;

namespace {

// What a place holds before it is written: whatever is added to it shows.
at::Tensor unwritten(at::IntArrayRef sizes, at::Device device = at::kCPU) {
  return torch::full(sizes, std::numeric_limits<float>::quiet_NaN(), at::TensorOptions(device));
}

}  // namespace

TEST_CASE("The first product of an offered gradient is written to its place, and the next is added", "[nn][gpu]") {
  const auto type = GENERATE(at::kFloat, at::kBFloat16, at::kHalf);
  const at::Device device(device::has_cuda() ? at::kCUDA : at::kCPU);
  const double scale = GENERATE(1.0, 0.5);
  torch::manual_seed(1);
  const at::Tensor leaf = torch::randn({16, 24}).to(device, type).requires_grad_(true);
  const at::Tensor a = torch::randn({16, 8}).to(device, type), b = torch::randn({8, 24}).to(device, type);
  const at::Tensor place = unwritten({16, 24}, device);
  nn::offer_gradient(leaf, place);
  CHECK(nn::offered_gradient(leaf).is_same(place));
  CHECK_FALSE(leaf.grad().defined());
  const at::Tensor once = scale * at::mm(a.to(at::kDouble), b.to(at::kDouble));
  // off the GPU sums of 16-bit products are rounded to 16 bits
  const double bound = type == at::kFloat || device.is_cuda() ? 1e-4 : type == at::kBFloat16 ? 0.1 : 0.01;
  for (int times = 1; times <= 2; ++times) {
    CHECK_FALSE(nn::add_to_gradient(leaf, a, b, scale).defined());
    REQUIRE(leaf.grad().is_same(place));
    CHECK((place.to(at::kDouble) - times * once).abs().max().item<double>() < times * bound);
    CHECK_FALSE(nn::offered_gradient(leaf).defined());
  }
  CHECK_FALSE(nn::withdraw_offered_gradient(leaf));
}

TEST_CASE("A gradient that autograd has brought leaves an offer as it is, to be withdrawn", "[nn]") {
  at::Tensor leaf = torch::ones({2, 3}).requires_grad_(true), place = unwritten({2, 3});
  nn::offer_gradient(leaf, place);
  (leaf * 2).sum().backward();
  CHECK_FALSE(leaf.grad().is_same(place));
  CHECK_FALSE(nn::accept_offered_gradient(leaf).defined());
  CHECK(nn::withdraw_offered_gradient(leaf));
  CHECK_FALSE(nn::withdraw_offered_gradient(leaf));
  CHECK(leaf.grad().equal(torch::full({2, 3}, 2.0)));
  CHECK(place.isnan().all().item<bool>());
}

TEST_CASE("A place of another shape or type is not offered", "[nn]") {
  const at::Tensor leaf = torch::ones({2, 3}, at::kBFloat16).requires_grad_(true);
  CHECK_THROWS(nn::offer_gradient(leaf, torch::zeros({3, 2})));
  CHECK_THROWS(nn::offer_gradient(leaf, torch::zeros({2, 3}, at::kBFloat16)));
}
