#include "rl/row_sums.h"

namespace dsft::rl {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// Tokens behind the last row's end are in no sum.
at::Tensor sums(const at::Tensor& of_tokens, const at::Tensor& row_starts) {
  if (of_tokens.numel() == 0) return at::zeros({row_starts.numel() - 1}, of_tokens.options());
  return at::segment_reduce(of_tokens.contiguous(), "sum", /*lengths=*/{}, /*indices=*/{}, row_starts, /*axis=*/0,
                            /*unsafe=*/true, /*initial=*/0.0);
}

// Each is the other's gradient. torch's own for index_select adds in an order that changes on a GPU.
class SumRows : public torch::autograd::Function<SumRows> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& of_tokens, const at::Tensor& rows,
                            const at::Tensor& row_starts) {
    context->save_for_backward({rows, row_starts});
    return sums(of_tokens, row_starts);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    return {gradients[0].index_select(0, saved[0]), {}, {}};
  }
};

class SpreadRows : public torch::autograd::Function<SpreadRows> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& of_rows, const at::Tensor& rows,
                            const at::Tensor& row_starts) {
    context->save_for_backward({rows, row_starts});
    return of_rows.index_select(0, rows);
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    return {sums(gradients[0], context->get_saved_variables()[1]), {}, {}};
  }
};

}  // namespace

at::Tensor sum_rows(const at::Tensor& of_tokens, const PolicyTargets& policy) {
  return SumRows::apply(of_tokens, policy.rows, policy.row_starts);
}

at::Tensor spread_rows(const at::Tensor& of_rows, const PolicyTargets& policy) {
  return SpreadRows::apply(of_rows, policy.rows, policy.row_starts);
}

}  // namespace dsft::rl
