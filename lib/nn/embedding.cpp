#include "nn/embedding.h"

#include <torch/autograd.h>

#include "kernels/embedding_gradient.h"
#include "nn/leaf_gradient.h"

namespace dsft::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Its backward pass adds to the rows that were looked up, where autograd's own one makes a whole table.
class Lookup : public torch::autograd::Function<Lookup> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& weight, const at::Tensor& ids) {
    context->save_for_backward({weight, ids});
    return at::embedding(weight, ids);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const at::Tensor &weight = saved[0], &ids = saved[1], gradient = gradients[0].contiguous();
    if (const at::Tensor place = accept_offered_gradient(weight); place.defined()) place.zero_();
    const at::Tensor& sum = weight.grad();
    const auto wide = at::promote_types(weight.scalar_type(), at::kFloat);
    if (sum.defined() && sum.scalar_type() == wide && sum.is_contiguous()) {
      kernels::add_embedding_gradient(sum, ids, gradient);
      return {at::Tensor(), at::Tensor()};  // nothing is left for autograd to add
    }
    const at::Tensor table = at::zeros(weight.sizes(), weight.options().dtype(wide));
    kernels::add_embedding_gradient(table, ids, gradient);
    return {table.to(weight.scalar_type()), at::Tensor()};
  }
};

}  // namespace

at::Tensor Embedding::forward(const at::Tensor& ids) const {
  const bool is_trained = at::GradMode::is_enabled() && weight_.requires_grad();
  return is_trained ? Lookup::apply(weight_, ids) : at::embedding(weight_, ids);
}

}  // namespace dsft::nn
