// What answers where dsft is built without CUDA: no tensor is on such a device then.
#include "base/error.h"
#include "kernels/counter_dropout_cuda.h"
#include "kernels/cudnn_attention.h"
#include "kernels/decode_attention_cuda.h"
#include "kernels/dropped_products_cuda.h"
#include "kernels/embedding_gradient_cuda.h"
#include "kernels/equal_products_cuda.h"
#include "kernels/few_rows_product_cuda.h"
#include "kernels/packed_adapters_cuda.h"
#include "kernels/rms_norm_cuda.h"
#include "kernels/rotary_cuda.h"
#include "kernels/rotate_heads_cuda.h"
#include "kernels/sample_tokens_cuda.h"
#include "kernels/swiglu_cuda.h"
#include "kernels/token_log_probs_rows_cuda.h"

namespace dsft::kernels::cuda {
namespace {

[[noreturn]] void fail_without_cuda() {
  fail(ErrorKind::kInternal, "a CUDA kernel was called, and dsft was built without CUDA");
}

}  // namespace

void equal_products(const at::Tensor&, const at::Tensor&, at::Tensor) {
  fail_without_cuda();
}
bool has_rms_norm(FloatType, int64_t) {
  return false;
}
void rms_norm(const void*, const NormAddition&, const void*, void*, float*, int64_t, int64_t, float, FloatType,
              Stream) {
  fail_without_cuda();
}
int64_t rms_norm_num_parts(FloatType, int64_t) {
  fail_without_cuda();
}
void rms_norm_backward(const void*, const void*, const void*, const void*, const float*, void*, float*, int64_t,
                       int64_t, FloatType, Stream) {
  fail_without_cuda();
}
bool has_rotate_heads(int64_t) {
  return false;
}
void rotate_heads(const void*, const HeadFactors&, void*, void*, const PackedRows&, FloatType, Stream) {
  fail_without_cuda();
}
int64_t rotate_heads_num_parts() {
  fail_without_cuda();
}
void rotate_heads_backward(const void*, const void*, const void*, const void*, const HeadFactors&, void*, float*,
                           const PackedRows&, FloatType, Stream) {
  fail_without_cuda();
}
bool has_dropped_products(const DroppedProducts&, FloatType) {
  return false;
}
void multiply_dropped(const DroppedProducts&, const void*, const void*, void*, FloatType, Stream) {
  fail_without_cuda();
}
int64_t multiply_dropped_backward_num_parts(const DroppedProducts&) {
  fail_without_cuda();
}
void multiply_dropped_backward(const DroppedProducts&, const DroppedGradients&, FloatType, Stream) {
  fail_without_cuda();
}
bool has_decode_attention(const cpu::DecodeAttentionShape&) {
  return false;
}
int64_t decode_attention_splits(const cpu::DecodeAttentionShape&) {
  fail_without_cuda();
}
void decode_attention(const DecodeTensors&, const cpu::DecodeAttentionShape&, FloatType, Stream) {
  fail_without_cuda();
}
void append_rows(const AppendedRows&, FloatType, Stream) {
  fail_without_cuda();
}
void pack_adapters(const PackedAdapterPointers&, FloatType, Stream) {
  fail_without_cuda();
}
void add_unpacked_gradients(const PackedGradientPointers&, Stream) {
  fail_without_cuda();
}
void sample_tokens(const SampledRows&, const cpu::SamplingRule&, FloatType, Stream) {
  fail_without_cuda();
}
bool has_few_rows_product(const FewRowsProduct&, FloatType) {
  return false;
}
void few_rows_product(const FewRowsProduct&, FloatType, Stream) {
  fail_without_cuda();
}
void add_embedding_gradient(float*, const int*, const int64_t*, const void*, int64_t, int64_t, FloatType, Stream) {
  fail_without_cuda();
}
void swiglu(const void*, void*, int64_t, int64_t, FloatType, Stream) {
  fail_without_cuda();
}
void swiglu_backward(const void*, const void*, void*, int64_t, int64_t, FloatType, Stream) {
  fail_without_cuda();
}
void rotate(const void*, int64_t, const float*, const float*, float, void*, int64_t, int64_t, int64_t, FloatType,
            Stream) {
  fail_without_cuda();
}
void token_log_probs_rows(void*, const int64_t*, float*, bool*, bool, const float*, const TemperedSoftmax&, int64_t,
                          int64_t, FloatType, Stream) {
  fail_without_cuda();
}
void dropout(const void*, void*, const int64_t*, const int64_t*, int64_t, int64_t, cpu::DropoutStream, FloatType,
             Stream) {
  fail_without_cuda();
}

}  // namespace dsft::kernels::cuda

namespace dsft::kernels::cudnn {

bool may_take(const at::TensorOptions&, int64_t) {
  return false;
}
void prepare(const at::TensorOptions&, const Shape&, const Documents&) {
  cuda::fail_without_cuda();
}
int64_t num_plans() {
  return 0;
}
std::optional<Attended> forward(const at::Tensor&, const at::Tensor&, const at::Tensor&, const Documents&, double,
                                int64_t) {
  return std::nullopt;
}
std::optional<AttentionGradients> backward(const at::Tensor&, const at::Tensor&, const at::Tensor&, const at::Tensor&,
                                           const Attended&, const Documents&, double, int64_t) {
  return std::nullopt;
}

}  // namespace dsft::kernels::cudnn
