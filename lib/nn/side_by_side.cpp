#include "nn/side_by_side.h"

#include <torch/autograd.h>

#include <algorithm>
#include <numeric>

#include "base/error.h"
#include "kernels/dropped_products.h"
#include "kernels/few_rows_product.h"
#include "kernels/float_products.h"
#include "kernels/packed_adapters.h"
#include "kernels/row_products.h"
#include "kernels/swiglu.h"
#include "nn/flat_view.h"
#include "nn/leaf_gradient.h"
#include "nn/narrow_adapters.h"

namespace dsft::nn {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// One Linear of a group, as the node needs it.
struct Part {
  const WeightStorage* weight = nullptr;  // outlives the graph: its module is kept by whoever runs it
  at::Tensor bias;                        // undefined: none
  int64_t first = 0, width = 0;           // columns of the result
  at::Tensor a, b;                        // of its adapter, fp32; undefined: none
  int64_t first_rank = 0, rank = 0;       // columns of the group's A(x)
  double scale = 1, dropout = 0;
  uint64_t dropout_key = 0;
  // places among the node's inputs; -1: not trained
  int64_t weight_input = -1, bias_input = -1, a_input = -1, b_input = -1;

  at::Tensor of(const at::Tensor& columns) const { return columns.narrow(1, first, width); }
  at::Tensor of_low(const at::Tensor& columns) const { return columns.narrow(1, first_rank, rank); }
};

struct Group : torch::CustomClassHolder {
  std::vector<Part> parts;
  kernels::DropoutKeys keys;  // sample_keys undefined: nothing is dropped
  int64_t width = 0, rank = 0;
  bool is_packed = false;  // all adapters as one pair of matrices
  bool is_generating = false;
  bool isolates_rows = false;
  Values values = Values::kRead;
  KeptNarrowAdapters* kept_adapters = nullptr;
  const Linear* first = nullptr;

  /// Whether the backward pass reads x.
  bool needs_input() const {
    return std::any_of(parts.begin(), parts.end(),
                       [](const Part& part) { return part.weight_input >= 0 || part.a_input >= 0; });
  }
  bool drops() const {
    return keys.sample_keys.defined() &&
           std::any_of(parts.begin(), parts.end(), [](const Part& part) { return part.dropout > 0; });
  }
  int64_t num_adapters() const {
    return std::count_if(parts.begin(), parts.end(), [](const Part& part) { return part.a.defined(); });
  }
  std::vector<kernels::DroppedRows> dropped_rows() const {
    std::vector<kernels::DroppedRows> rows;
    for (const Part& part : parts)
      if (part.a.defined()) rows.push_back({part.first_rank, part.rank, part.dropout, part.dropout_key});
    return rows;
  }
};

// One weight [sum of out, in] of all parts; undefined where there is none in memory.
at::Tensor joined_weight(const Group& group) {
  std::vector<at::Tensor> weights;
  for (const Part& part : group.parts) weights.push_back(part.weight->resident());
  const at::Tensor flat = flat_view(weights);
  return flat.defined() ? flat.view({group.width, weights[0].size(1)}) : flat;
}

at::Tensor joined_bias(const Group& group) {
  std::vector<at::Tensor> biases;
  for (const Part& part : group.parts) biases.push_back(part.bias);
  if (!biases[0].defined()) return {};
  const at::Tensor flat = flat_view(biases);
  return flat.defined() ? flat : at::cat(biases);
}

// x W^T + bias by the kernels that a generating group or one of isolated rows has; undefined where that is none.
at::Tensor multiply_specially(const Group& group, const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& bias) {
  if (!weight.defined()) return {};
  if (group.isolates_rows) return kernels::multiply_each_row(x, weight, bias);
  return group.is_generating ? kernels::multiply_few_rows(x, weight, bias) : at::Tensor();
}

// x W^T + bias of all parts.
at::Tensor multiply(const Group& group, const at::Tensor& x) {
  const at::Tensor joined = joined_weight(group);
  if (joined.defined()) {
    const at::Tensor bias = joined_bias(group);
    const at::Tensor product = multiply_specially(group, x, joined, bias);
    return product.defined() ? product : torch::linear(x, joined, bias);
  }
  std::vector<at::Tensor> products;
  for (const Part& part : group.parts) {
    const at::Tensor product = multiply_specially(group, x, part.weight->resident(), part.bias);
    products.push_back(product.defined() ? product : part.weight->multiply(x, part.bias));
  }
  return products.size() == 1 ? products[0] : at::cat(products, 1);
}

// dy W of all parts, added up.
at::Tensor multiply_gradient(const Group& group, const at::Tensor& dy) {
  const at::Tensor joined = joined_weight(group);
  if (joined.defined()) return at::mm(dy, joined);
  at::Tensor dx;
  for (const Part& part : group.parts) {
    const at::Tensor product = part.weight->multiply_gradient(part.of(dy));
    dx = dx.defined() ? dx.add_(product) : product;
  }
  return dx;
}

NarrowAdapters pack(const Group& group, const at::Tensor& x) {
  std::vector<kernels::AdapterOfColumns> adapters;
  for (const Part& part : group.parts)
    if (part.a.defined()) adapters.push_back({part.a, part.b, part.scale, part.first, part.first_rank});
  const kernels::PackedAdapters packed = kernels::pack_adapters(adapters, group.width, x);
  return {packed.a, {packed.b}};
}

// One cast of all of them: they lie one behind another once an optimizer has them.
NarrowAdapters make_narrow_adapters(const Group& group, const at::Tensor& x) {
  if (group.is_packed) return pack(group, x);
  std::vector<at::Tensor> wide;
  for (const Part& part : group.parts)
    if (part.a.defined()) wide.insert(wide.end(), {part.a, part.b});
  at::Tensor flat = flat_view(wide);
  if (!flat.defined()) {
    for (at::Tensor& tensor : wide) tensor = tensor.flatten();
    flat = at::cat(wide);
  }
  flat = flat.to(x.scalar_type());
  NarrowAdapters narrow;
  std::vector<at::Tensor> a;
  int64_t offset = 0;
  const auto next = [&](const at::Tensor& like) {
    const at::Tensor view = flat.narrow(0, offset, like.numel()).view(like.sizes());
    offset += like.numel();
    return view;
  };
  for (const Part& part : group.parts) {
    if (!part.a.defined()) continue;
    a.push_back(next(part.a));
    narrow.b.push_back(next(part.b));
  }
  narrow.a = a.size() == 1 ? a[0] : at::cat(a);
  return narrow;
}

NarrowAdapters narrow_adapters(const Group& group, const at::Tensor& x) {
  if (!group.kept_adapters) return make_narrow_adapters(group, x);
  return group.kept_adapters->get(group.first, [&] { return make_narrow_adapters(group, x); });
}

// A(dropout(x)) of all adapters, [T, sum of ranks].
at::Tensor multiply_low(const Group& group, const at::Tensor& x, const at::Tensor& a) {
  if (group.drops()) return kernels::multiply_dropped(x, a, group.dropped_rows(), group.keys);
  return group.isolates_rows ? kernels::multiply_each_row(x, a) : at::mm(x, a.t());
}

// Up to so many tokens the gradients of all b of a group are one product, of which each part reads its block. For n
// adapters that is n times the multiplications of n products, but it reads dy once as they do, and few tokens cost less
// than n - 1 launches.
constexpr int64_t kMostTokensOfJoinedProduct = 2048;

// The adapters of a group with their gradients in the places of a and b; none where kernels::add_unpacked_gradients
// cannot add to all of them, or where a product can add to the only one by itself.
std::vector<kernels::AdapterOfColumns> sums_of_adapters(const Group& group) {
  std::vector<kernels::AdapterOfColumns> sums;
  if (!group.is_packed) return sums;
  for (const Part& part : group.parts) {
    if (!part.a.defined()) continue;
    if (part.a_input < 0 || part.b_input < 0) return {};
    for (const at::Tensor& sum : {part.a.grad(), part.b.grad()})
      if (!sum.defined() || sum.scalar_type() != at::kFloat || !sum.is_contiguous()) return {};
    sums.push_back({part.a.grad(), part.b.grad(), part.scale, part.first, part.first_rank});
  }
  if (sums.size() < 2 && !group.drops()) sums.clear();
  return sums;
}

class SideBySide : public torch::autograd::Function<SideBySide> {
 public:
  // inputs: x, then what is trained
  static at::Tensor forward(AutogradContext* context, at::TensorList inputs, const c10::intrusive_ptr<Group>& group) {
    const at::Tensor& x = inputs[0];
    const bool is_read = group->values == Values::kRead;
    at::Tensor y = is_read ? multiply(*group, x) : at::empty({x.size(0), group->width}, x.options());
    variable_list kept = {group->needs_input() ? x : at::Tensor()};
    if (group->rank > 0) {
      const NarrowAdapters narrow = narrow_adapters(*group, x);
      const at::Tensor low = multiply_low(*group, x, narrow.a);
      if (is_read) add_adapted(*group, low, narrow, y);
      kept.insert(kept.end(), {low, narrow.a});
      kept.insert(kept.end(), narrow.b.begin(), narrow.b.end());
    }
    context->save_for_backward(kept);
    context->saved_data["group"] = c10::IValue::make_capsule(group);
    context->saved_data["num_inputs"] = static_cast<int64_t>(inputs.size());
    return y;
  }

  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const auto group = c10::static_intrusive_pointer_cast<Group>(context->saved_data["group"].toCapsule());
    const variable_list kept = context->get_saved_variables();
    const at::Tensor &x = kept[0], dy = gradients[0].contiguous();
    variable_list result(static_cast<size_t>(context->saved_data["num_inputs"].toInt()) + 1);
    add_weights(*group, x, dy, result);
    for (const Part& part : group->parts)
      if (part.bias_input >= 0) result[part.bias_input] = part.of(dy).sum(0);
    if (context->needs_input_grad(0)) result[0] = multiply_gradient(*group, dy);
    if (group->rank > 0) add_low(*group, kept, dy, result);
    return result;
  }

 private:
  // y += scale * B(low), for each adapter.
  static void add_adapted(const Group& group, const at::Tensor& low, const NarrowAdapters& narrow, at::Tensor& y) {
    if (group.is_packed) {
      if (group.isolates_rows)
        y.add_(kernels::multiply_each_row(low, narrow.b[0]));
      else
        y.addmm_(low, narrow.b[0].t());
      return;
    }
    size_t next = 0;
    for (const Part& part : group.parts) {
      if (!part.a.defined()) continue;
      const at::Tensor &b = narrow.b[next++], of_low = part.of_low(low);
      if (group.isolates_rows)
        part.of(y).add_(kernels::multiply_each_row(of_low, b), part.scale);
      else
        part.of(y).addmm_(of_low, b.t(), /*beta=*/1, part.scale);
    }
  }

  // The gradient of low [T, sum of ranks]; b: as kept.
  static at::Tensor gradient_of_low(const Group& group, const at::Tensor& dy, at::ArrayRef<at::Tensor> b) {
    if (group.is_packed) return at::mm(dy, b[0]);
    at::Tensor d_low = at::empty({dy.size(0), group.rank}, dy.options());
    size_t next = 0;
    for (const Part& part : group.parts)
      if (part.a.defined()) part.of_low(d_low).addmm_(part.of(dy), b[next++], /*beta=*/0, /*alpha=*/part.scale);
    return d_low;
  }

  // The weights' gradients: one product where the sums of all of them lie side by side.
  static void add_weights(const Group& group, const at::Tensor& x, const at::Tensor& dy, variable_list& result) {
    std::vector<at::Tensor> sums, places;
    for (const Part& part : group.parts) {
      sums.push_back(part.weight_input >= 0 ? part.weight->resident().grad() : at::Tensor());
      places.push_back(part.weight_input >= 0 ? offered_gradient(part.weight->resident()) : at::Tensor());
    }
    const auto joined = [&](const std::vector<at::Tensor>& tensors) {
      const at::Tensor flat = tensors.size() > 1 ? flat_view(tensors) : at::Tensor();
      return flat.defined() && flat.scalar_type() == at::kFloat ? flat.view({group.width, x.size(1)}) : at::Tensor();
    };
    if (const at::Tensor sum = joined(sums); sum.defined()) return kernels::add_product(sum, dy.t(), x);
    if (const at::Tensor place = joined(places); place.defined()) {
      for (const Part& part : group.parts) accept_offered_gradient(part.weight->resident());
      return kernels::write_product(place, dy.t(), x);
    }
    for (const Part& part : group.parts)
      if (part.weight_input >= 0)
        result[part.weight_input] = add_to_gradient(part.weight->resident(), part.of(dy).t(), x);
  }

  // The adapters' share of x's gradient, and their own gradients.
  static void add_low(const Group& group, const variable_list& kept, const at::Tensor& dy, variable_list& result) {
    const at::Tensor &x = kept[0], &low = kept[1], &a = kept[2];
    const bool trains_a =
        std::any_of(group.parts.begin(), group.parts.end(), [](const Part& part) { return part.a_input >= 0; });
    const std::vector<kernels::AdapterOfColumns> sums = sums_of_adapters(group);
    kernels::PackedAdapters joined;  // gradients that are added to `sums`
    if (!sums.empty() && dy.size(0) <= kMostTokensOfJoinedProduct) {
      joined.b = kernels::multiply_to_float(dy.t(), low);
    } else {
      for (const Part& part : group.parts)
        if (part.b_input >= 0)
          result[part.b_input] = add_to_gradient(part.b, part.of(dy).t(), part.of_low(low), part.scale);
    }
    if (!trains_a && !result[0].defined()) return;
    const at::Tensor d_low = gradient_of_low(group, dy, at::ArrayRef<at::Tensor>(kept).slice(3));
    const bool is_joined = !sums.empty() || (trains_a && (group.drops() || group.num_adapters() > 1));
    if (group.drops()) {
      joined.a = kernels::multiply_dropped_backward(result[0], d_low, is_joined ? x : at::Tensor(), a,
                                                    group.dropped_rows(), group.keys);
    } else {
      if (result[0].defined()) result[0].addmm_(d_low, a);
      if (is_joined) joined.a = kernels::multiply_to_float(d_low.t(), x);
    }
    if (!sums.empty()) return kernels::add_unpacked_gradients(joined, sums);
    for (const Part& part : group.parts)
      if (part.a_input >= 0)
        result[part.a_input] = is_joined ? joined.a.narrow(0, part.first_rank, part.rank).to(part.a.scalar_type())
                                         : add_to_gradient(part.a, d_low.t(), x);
  }
};

c10::intrusive_ptr<Group> make_group(const std::vector<const Linear*>& linears, const ForwardContext& context,
                                     Values values, variable_list& inputs) {
  auto group = c10::make_intrusive<Group>();
  group->values = values;
  group->is_generating = context.is_generating();
  group->isolates_rows = context.isolates_rows;
  group->kept_adapters = at::GradMode::is_enabled() ? nullptr : context.adapters;
  group->first = linears[0];
  if (context.is_training()) group->keys = context.dropout;
  const auto add_input = [&](const at::Tensor& tensor) {
    if (!tensor.requires_grad()) return int64_t{-1};
    inputs.push_back(tensor);
    return static_cast<int64_t>(inputs.size()) - 1;
  };
  for (const Linear* linear : linears) {
    Part part;
    part.weight = &linear->storage();
    part.bias = linear->bias();
    part.first = group->width;
    part.width = linear->out_features();
    group->width += part.width;
    if (part.weight->is_trained()) part.weight_input = add_input(part.weight->resident());
    if (part.bias.defined()) part.bias_input = add_input(part.bias);
    if (linear->adapter() && linear->adapter()->is_enabled) {
      const LoraAdapter& adapter = *linear->adapter();
      DSFT_CHECK(part.weight_input < 0, "a weight under an adapter is trained too");
      part.a = adapter.a;
      part.b = adapter.b;
      part.scale = adapter.scale;
      part.dropout = adapter.dropout;
      part.dropout_key = adapter.dropout_key;
      part.first_rank = group->rank;
      part.rank = adapter.a.size(0);
      part.a_input = add_input(adapter.a);
      part.b_input = add_input(adapter.b);
      group->rank += part.rank;
    }
    group->parts.push_back(part);
  }
  group->is_packed = group->rank > 0 && kernels::packs_adapters(inputs[0], linears.size());
  return group;
}

// `total` elements, cut into rows of these heights. The pieces are no views of the whole in autograd's eyes: those
// would keep its memory, and not only as long as they lie there.
std::vector<at::Tensor> cut(const at::Tensor& whole, const std::vector<int64_t>& heights) {
  std::vector<at::Tensor> pieces;
  int64_t first = 0;
  for (const int64_t height : heights) {
    pieces.push_back(whole.narrow(0, first, height).detach());
    first += height;
  }
  return pieces;
}

}  // namespace

std::vector<std::shared_ptr<Linear>> make_side_by_side(int64_t in, const std::vector<int64_t>& widths, bool has_bias,
                                                       at::TensorOptions options) {
  const int64_t total = std::accumulate(widths.begin(), widths.end(), int64_t{0});
  const std::vector<at::Tensor> weights = cut(torch::empty({total, in}, options), widths);
  const std::vector<at::Tensor> biases =
      has_bias ? cut(torch::empty({total}, options), widths) : std::vector<at::Tensor>(widths.size());
  std::vector<std::shared_ptr<Linear>> linears;
  for (size_t i = 0; i < widths.size(); ++i) linears.push_back(Linear::over(weights[i], biases[i]));
  return linears;
}

at::Tensor multiply_side_by_side(const at::Tensor& x, const std::vector<const Linear*>& linears,
                                 const ForwardContext& context, Values values) {
  variable_list inputs = {x};
  const auto group = make_group(linears, context, values, inputs);
  return SideBySide::apply(at::TensorList(inputs), group);
}

at::Tensor multiply_gated(const at::Tensor& x, const Linear& gate, const Linear& up, const ForwardContext& context) {
  variable_list inputs = {x};
  const auto group = make_group({&gate, &up}, context, Values::kRead, inputs);
  const at::Tensor joined = group->is_generating && !group->isolates_rows && group->rank == 0 && !gate.bias().defined()
                                ? joined_weight(*group)
                                : at::Tensor();
  const at::Tensor product = joined.defined() ? kernels::multiply_few_rows_gated(x, joined) : at::Tensor();
  return product.defined() ? product : kernels::swiglu(SideBySide::apply(at::TensorList(inputs), group));
}

}  // namespace dsft::nn
