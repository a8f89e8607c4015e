#include "kernels/row_products.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include "catch_amalgamated.hpp"
#include "device/device.h"

using namespace dsft::kernels;

TEST_CASE("A row's product is a function of that row alone, at any number of rows and threads", "[kernels]") {
  torch::manual_seed(3);
  const int64_t in = GENERATE(1, 16, 61, 576), out = GENERATE(1, 97, 200), rows = 150;
  const bool has_bias = GENERATE(false, true);
  INFO(in << " -> " << out);
  const at::Tensor x = torch::randn({rows, in}), weight = torch::randn({out, in});
  const at::Tensor bias = has_bias ? torch::randn({out}) : at::Tensor();
  const at::Tensor all = multiply_each_row(x, weight, bias);
  const at::Tensor expected =
      torch::linear(x.to(at::kDouble), weight.to(at::kDouble), has_bias ? bias.to(at::kDouble) : at::Tensor());
  CHECK((all - expected).abs().max().item<double>() < 1e-6 * static_cast<double>(in));
  const int threads = at::get_num_threads();
  for (const int64_t count : {1, 2, 3, 5, 16, 64, 65, 149}) {
    at::set_num_threads(count % 2 == 0 ? 2 : 1);
    // a part of a wider tensor lies at addresses of another alignment
    const at::Tensor part = torch::cat({torch::zeros({1}), x.narrow(0, 1, count).flatten()}).narrow(0, 1, count * in);
    CHECK(multiply_each_row(part.view({count, in}), weight, bias).equal(all.narrow(0, 1, count)));
  }
  at::set_num_threads(threads);
}

TEST_CASE("In every type a row's product is a function of that row alone", "[kernels]") {
  torch::manual_seed(4);
  const auto dtype = GENERATE(at::kBFloat16, at::kHalf, at::kDouble);
  const at::Tensor x = torch::randn({600, 200}).to(dtype), weight = torch::randn({72, 200}).to(dtype),
                   bias = torch::randn({72}).to(dtype);
  for (const at::Tensor& added : {at::Tensor(), bias}) {
    const at::Tensor all = multiply_each_row(x, weight, added);
    const at::Tensor expected = torch::linear(x.to(at::kDouble), weight.to(at::kDouble),
                                              added.defined() ? added.to(at::kDouble) : at::Tensor());
    CHECK((all - expected).abs().max().item<double>() < 0.01 * expected.abs().max().item<double>());
    for (const auto& [first, count] : {std::pair<int64_t, int64_t>{0, 1}, {7, 3}, {130, 256}, {255, 300}, {599, 1}})
      CHECK(multiply_each_row(x.narrow(0, first, count), weight, added).equal(all.narrow(0, first, count)));
  }
}

TEST_CASE("Products of no rows are there", "[kernels]") {
  for (const auto dtype : {at::kFloat, at::kBFloat16})
    CHECK(multiply_each_row(torch::ones({0, 3}, dtype), torch::ones({4, 3}, dtype)).sizes() == at::IntArrayRef({0, 4}));
}

TEST_CASE("On a GPU a row's product is a function of that row alone", "[kernels][gpu]") {
  if (!dsft::device::has_cuda()) SKIP("no GPU");
  torch::manual_seed(4);
  const auto dtype = GENERATE(at::kBFloat16, at::kHalf, at::kFloat);
  const auto options = torch::TensorOptions(dtype).device(at::kCUDA);
  const int64_t in = GENERATE(16, 96, 576, 1536, 8960), out = GENERATE(8, 32, 256, 1536, 2048, 17920);
  INFO(in << " -> " << out);
  const at::Tensor x = torch::randn({10400, in}, options), weight = torch::randn({out, in}, options),
                   bias = torch::randn({out}, options);
  for (const at::Tensor& added : {at::Tensor(), bias}) {
    const at::Tensor all = multiply_each_row(x, weight, added);
    for (const auto& [first, count] :
         {std::pair<int64_t, int64_t>{0, 1}, {7, 3}, {130, 256}, {255, 300}, {77, 1023}, {9000, 1400}, {10399, 1}})
      CHECK(multiply_each_row(x.narrow(0, first, count), weight, added).equal(all.narrow(0, first, count)));
  }
}
