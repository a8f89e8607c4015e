#include "kernels/varlen_attention.h"

#include <torch/autograd.h>
#include <torch/types.h>

#include <algorithm>

#include "base/error.h"
#include "device/device.h"
#include "kernels/document_attention.h"

namespace dsft::kernels {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

// [L, heads, D] -> [1, heads * repeats, L, D]; each kv head serves `repeats` consecutive query heads.
at::Tensor to_dense(const at::Tensor& x, int64_t repeats) {
  at::Tensor heads = x.transpose(0, 1).unsqueeze(0);
  if (repeats == 1) return heads;
  return heads.unsqueeze(2)
      .expand({1, x.size(1), repeats, x.size(0), x.size(2)})
      .reshape({1, x.size(1) * repeats, x.size(0), x.size(2)});
}

at::Tensor window_mask(int64_t length, int64_t window, at::Device device) {
  const at::Tensor index = torch::arange(length, at::TensorOptions(at::kLong).device(device));
  const at::Tensor distance = index.unsqueeze(1) - index.unsqueeze(0);
  return distance.ge(0).logical_and(distance.lt(window));
}

// The documents travel as a capsule, since autograd keeps no structs.
struct KeptDocuments : torch::CustomClassHolder {
  Documents documents;
};

class VarlenAttention : public torch::autograd::Function<VarlenAttention> {
 public:
  static at::Tensor forward(AutogradContext* context, const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                            const AttendedDocuments& attended, const Documents& documents, double scale,
                            int64_t window) {
    auto kept = c10::make_intrusive<KeptDocuments>();
    kept->documents = documents;
    variable_list tensors = {q, k, v, attended.out, attended.statistics};
    tensors.insert(tensors.end(), attended.flash_state.begin(), attended.flash_state.end());
    context->save_for_backward(tensors);
    context->saved_data["documents"] = c10::IValue::make_capsule(kept);
    context->saved_data["scale"] = scale;
    context->saved_data["window"] = window;
    return attended.out;
  }
  static variable_list backward(AutogradContext* context, variable_list gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto kept = c10::static_intrusive_pointer_cast<KeptDocuments>(context->saved_data["documents"].toCapsule());
    const auto [dq, dk, dv] = attend_documents_backward(
        gradients[0].contiguous(), saved[0], saved[1], saved[2], {saved[3], saved[4], {saved.begin() + 5, saved.end()}},
        kept->documents, context->saved_data["scale"].toDouble(), context->saved_data["window"].toInt());
    return {dq, dk, dv, {}, {}, {}, {}};
  }
};

}  // namespace

Documents make_documents(std::vector<int64_t> boundaries, at::Device device) {
  Documents documents;
  for (size_t d = 0; d + 1 < boundaries.size(); ++d)
    documents.longest = std::max(documents.longest, boundaries[d + 1] - boundaries[d]);
  if (device.is_cuda()) documents.on_device = device::copy_from_host(torch::tensor(boundaries, at::kInt), device);
  documents.boundaries = std::move(boundaries);
  return documents;
}

// what FlashAttention takes, of which cuDNN takes a part
bool attends_by_device(const at::TensorOptions& options, int64_t head_dim) {
  const at::ScalarType type = c10::typeMetaToScalarType(options.dtype());
  const bool is_16_bit = type == at::kBFloat16 || type == at::kHalf;
  return options.device().is_cuda() && is_16_bit && head_dim % 8 == 0 && head_dim <= 256;
}

at::Tensor varlen_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const Documents& documents,
                            double scale, int64_t window) {
  if (window >= documents.longest) window = 0;
  if (!attends_by_device(q.options(), q.size(2)))
    return varlen_attention_by_documents(q, k, v, documents.boundaries, scale, window);
  const at::Tensor dense_q = q.contiguous(), dense_k = k.contiguous(), dense_v = v.contiguous();
  return VarlenAttention::apply(dense_q, dense_k, dense_v,
                                attend_documents(dense_q, dense_k, dense_v, documents, scale, window), documents, scale,
                                window);
}

at::Tensor varlen_attention_by_documents(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                         const std::vector<int64_t>& boundaries, double scale, int64_t window) {
  const int64_t repeats = q.size(1) / k.size(1);
  std::vector<at::Tensor> documents;
  for (size_t d = 0; d + 1 < boundaries.size(); ++d) {
    const int64_t begin = boundaries[d], length = boundaries[d + 1] - begin;
    if (length == 0) continue;
    const at::Tensor dense_q = to_dense(q.narrow(0, begin, length), 1);
    const at::Tensor dense_k = to_dense(k.narrow(0, begin, length), repeats),
                     dense_v = to_dense(v.narrow(0, begin, length), repeats);
    const bool is_windowed = window > 0 && window < length;
    const at::Tensor out = at::scaled_dot_product_attention(
        dense_q, dense_k, dense_v,
        is_windowed ? std::optional<at::Tensor>(window_mask(length, window, q.device())) : std::nullopt,
        /*dropout_p=*/0.0,
        /*is_causal=*/!is_windowed, scale);
    documents.push_back(out.squeeze(0).transpose(0, 1));
  }
  return documents.size() == 1 ? documents[0] : torch::cat(documents, 0);
}

}  // namespace dsft::kernels
