#include "kernels/row_products.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include "catch_amalgamated.hpp"

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

TEST_CASE("Products of isolated rows are there in fp32 on the CPU alone", "[kernels]") {
  CHECK_FALSE(multiply_each_row(torch::ones({2, 3}, at::kBFloat16), torch::ones({4, 3}, at::kBFloat16)).defined());
  CHECK_FALSE(multiply_each_row(torch::ones({2, 3}, at::kDouble), torch::ones({4, 3}, at::kDouble)).defined());
  CHECK(multiply_each_row(torch::ones({0, 3}), torch::ones({4, 3})).sizes() == at::IntArrayRef({0, 4}));
}
