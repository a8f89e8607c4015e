#include "kernels/counter_dropout.h"

#include <ATen/Parallel.h>
#include <torch/autograd.h>
#include <torch/types.h>

#include "kernels/counter_dropout_cpu.h"
#include "kernels/counter_dropout_cuda.h"
#include "kernels/cuda_tensors.h"
#include "kernels/float_types.h"

namespace dsft::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

at::Tensor apply_cpu(const at::Tensor& x, double p, uint64_t module, const DropoutKeys& keys) {
  at::Tensor y = at::empty_like(x);
  const cpu::DropoutStream stream = cpu::dropout_stream(p, module, keys.seed);
  visit_float_type(x.scalar_type(), [&](auto type) {
    using T = decltype(type);
    at::parallel_for(0, x.size(0), 32, [&](int64_t begin, int64_t end) {
      cpu::dropout_tokens<T>(x.const_data_ptr<T>(), y.data_ptr<T>(), keys.sample_keys.const_data_ptr<int64_t>(),
                             keys.positions.const_data_ptr<int64_t>(), begin, end, x.size(1), stream);
    });
  });
  return y;
}

at::Tensor apply_cuda(const at::Tensor& given, double p, uint64_t module, const DropoutKeys& keys) {
  const at::Tensor x = cuda::is_aligned(given) ? given : given.clone();  // it is read by 16 bytes
  at::Tensor y = at::empty_like(x);
  cuda::dropout(x.const_data_ptr(), y.data_ptr(), keys.sample_keys.const_data_ptr<int64_t>(),
                keys.positions.const_data_ptr<int64_t>(), x.size(0), x.size(1),
                cpu::dropout_stream(p, module, keys.seed), cuda::float_type(x), cuda::stream_for(x));
  return y;
}

constexpr int64_t kLow32 = 0xffffffff;

// The upper 32 bits of a product of two 32-bit numbers held in int64; the product may wrap, its bits are right.
at::Tensor high_word(const at::Tensor& product) {
  return product.bitwise_right_shift(32).bitwise_and(kLow32);
}

}  // namespace

at::Tensor counter_dropout_factors(int64_t size, double p, uint64_t module, const DropoutKeys& keys,
                                   at::Device device) {
  const cpu::DropoutStream stream = cpu::dropout_stream(p, module, keys.seed);
  const int64_t num_tokens = keys.sample_keys.size(0), num_blocks = (size + 7) / 8;
  const auto options = at::TensorOptions(at::kLong).device(device);
  at::Tensor word0 = keys.sample_keys.to(device).bitwise_and(kLow32).unsqueeze(1).expand({num_tokens, num_blocks});
  at::Tensor word1 = keys.positions.to(device).bitwise_and(kLow32).unsqueeze(1).expand({num_tokens, num_blocks});
  at::Tensor word2 = keys.sample_keys.to(device).bitwise_right_shift(32).bitwise_and(kLow32).unsqueeze(1).expand(
      {num_tokens, num_blocks});
  at::Tensor word3 = at::arange(num_blocks, options).unsqueeze(0).expand({num_tokens, num_blocks});
  uint32_t key0 = stream.key0, key1 = stream.key1;
  for (int round = 0; round < 10; ++round) {
    const at::Tensor product0 = word0 * static_cast<int64_t>(0xD2511F53),
                     product1 = word2 * static_cast<int64_t>(0xCD9E8D57);
    word0 = high_word(product1).bitwise_xor(word1).bitwise_xor(static_cast<int64_t>(key0));
    word2 = high_word(product0).bitwise_xor(word3).bitwise_xor(static_cast<int64_t>(key1));
    word1 = product1.bitwise_and(kLow32);
    word3 = product0.bitwise_and(kLow32);
    key0 += 0x9E3779B9;
    key1 += 0xBB67AE85;
  }
  std::vector<at::Tensor> draws;
  for (const at::Tensor& word : {word0, word1, word2, word3}) {
    draws.push_back(word.bitwise_and(0xffff));
    draws.push_back(word.bitwise_right_shift(16));
  }
  const at::Tensor draw = at::stack(draws, -1).reshape({num_tokens, num_blocks * 8}).narrow(1, 0, size);
  return draw.ge(static_cast<int64_t>(stream.threshold)).to(at::kFloat) * stream.scale;
}

namespace {

at::Tensor apply_mask(const at::Tensor& x, double p, uint64_t module, const DropoutKeys& keys) {
  if (x.is_cpu() && x.scalar_type() != at::kDouble) return apply_cpu(x, p, module, keys);
  if (cuda::takes(x)) return apply_cuda(x, p, module, keys);
  return counter_dropout_by_operations(x, p, module, keys);
}

/// Keeps the keys, not the mask.
class CounterDropout : public torch::autograd::Function<CounterDropout> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& x, double p, int64_t module,
                            const DropoutKeys& keys) {
    context->saved_data["p"] = p;
    context->saved_data["module"] = module;
    context->saved_data["seed"] = static_cast<int64_t>(keys.seed);
    context->saved_data["samples"] = keys.sample_keys;
    context->saved_data["positions"] = keys.positions;
    return apply_mask(x, p, static_cast<uint64_t>(module), keys);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    auto& saved = context->saved_data;
    const DropoutKeys keys{static_cast<uint64_t>(saved["seed"].toInt()), saved["samples"].toTensor(),
                           saved["positions"].toTensor()};
    return {apply_mask(gradients[0].contiguous(), saved["p"].toDouble(), static_cast<uint64_t>(saved["module"].toInt()),
                       keys),
            {},
            {},
            {}};
  }
};

}  // namespace

at::Tensor counter_dropout(const at::Tensor& x, double p, uint64_t module, const DropoutKeys& keys) {
  DSFT_CHECK(x.dim() == 2 && keys.sample_keys.defined() && x.size(0) == keys.sample_keys.size(0) &&
                 x.size(0) == keys.positions.size(0),
             "counter_dropout of ", x.sizes());
  if (p == 0.0) return x;
  return CounterDropout::apply(x.contiguous(), p, static_cast<int64_t>(module), keys);
}

at::Tensor counter_dropout_by_operations(const at::Tensor& x, double p, uint64_t module, const DropoutKeys& keys) {
  // The product is rounded, not the factor: 1 / (1 - p) rounded to bf16 would bias every value by up to 0.2 %.
  return (x * counter_dropout_factors(x.size(1), p, module, keys, x.device())).to(x.scalar_type());
}

}  // namespace dsft::kernels
