#include "kernels/equal_products_cuda.h"

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDAGuard.h>
#include <cublasLt.h>

#include <map>
#include <memory>
#include <mutex>

#include "base/error.h"
#include "kernels/cuda_tensors.h"

namespace dsft::kernels::cuda {
namespace {

constexpr uint32_t kAlignment = 16;

void check(cublasStatus_t status, const char* call) {
  DSFT_CHECK(status == CUBLAS_STATUS_SUCCESS, "cuBLASLt: ", call, " gave ", static_cast<int>(status));
}

template <auto kDestroy>
struct Destroy {
  template <typename T>
  void operator()(T* descriptor) const {
    kDestroy(descriptor);
  }
};
using Operation = std::unique_ptr<std::remove_pointer_t<cublasLtMatmulDesc_t>, Destroy<cublasLtMatmulDescDestroy>>;
using Layout = std::unique_ptr<std::remove_pointer_t<cublasLtMatrixLayout_t>, Destroy<cublasLtMatrixLayoutDestroy>>;
using Preference =
    std::unique_ptr<std::remove_pointer_t<cublasLtMatmulPreference_t>, Destroy<cublasLtMatmulPreferenceDestroy>>;

cudaDataType_t type_of(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return CUDA_R_32F;
    case at::kHalf:
      return CUDA_R_16F;
    case at::kBFloat16:
      return CUDA_R_16BF;
    default:
      DSFT_CHECK(false, "no product of ", c10::toString(tensor.scalar_type()));
  }
}

// Dense matrices one behind another, by columns as cuBLAS has them: rows of torch's are columns here.
Layout make_layout(cudaDataType_t type, int64_t width, int64_t height, int64_t count, int64_t stride) {
  cublasLtMatrixLayout_t made = nullptr;
  check(cublasLtMatrixLayoutCreate(&made, type, static_cast<uint64_t>(width), static_cast<uint64_t>(height), width),
        "cublasLtMatrixLayoutCreate");
  Layout layout(made);
  const auto batch = static_cast<int32_t>(count);
  check(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch, sizeof batch),
        "BATCH_COUNT");
  check(cublasLtMatrixLayoutSetAttribute(made, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
        "STRIDED_BATCH_OFFSET");
  return layout;
}

/// y^T = W x^T of `count` products, in cuBLAS's view of the same memory.
struct Products {
  Products(cudaDataType_t type, int64_t rows, int64_t in, int64_t out, int64_t count)
      : weight(make_layout(type, in, out, count, /*stride=*/0)),
        x(make_layout(type, in, rows, count, rows * in)),
        y(make_layout(type, out, rows, count, rows * out)) {
    cublasLtMatmulDesc_t made = nullptr;
    check(cublasLtMatmulDescCreate(&made, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cublasLtMatmulDescCreate");
    operation.reset(made);
    const cublasOperation_t transposed = CUBLAS_OP_T;
    check(cublasLtMatmulDescSetAttribute(made, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof transposed), "TRANSA");
  }

  Operation operation;
  Layout weight, x, y;
};

struct Key {
  int device;
  cudaDataType_t type;
  int64_t rows, in, out;
  auto operator<=>(const Key&) const = default;
};

cublasLtMatmulAlgo_t choose(const Key& key) {
  const Products one(key.type, key.rows, key.in, key.out, /*count=*/1);
  cublasLtMatmulPreference_t made = nullptr;
  check(cublasLtMatmulPreferenceCreate(&made), "cublasLtMatmulPreferenceCreate");
  const Preference preference(made);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check(cublasLtMatmulPreferenceSetAttribute(made, attribute, &value, sizeof value), "a preference");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, size_t{0});
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_NONE));
  for (const auto alignment : {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                               CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(alignment, kAlignment);
  cublasLtMatmulHeuristicResult_t result;
  int count = 0;
  check(cublasLtMatmulAlgoGetHeuristic(at::cuda::getCurrentCUDABlasLtHandle(), one.operation.get(), one.weight.get(),
                                       one.x.get(), one.y.get(), one.y.get(), made, 1, &result, &count),
        "cublasLtMatmulAlgoGetHeuristic");
  DSFT_CHECK(count == 1, "cuBLASLt has no product of ", key.rows, " x ", key.in, " and ", key.out, " x ", key.in);
  return result.algo;
}

// Chosen once in a process.
const cublasLtMatmulAlgo_t& algorithm_of(const Key& key) {
  static std::mutex mutex;
  static std::map<Key, cublasLtMatmulAlgo_t> chosen;
  const std::lock_guard lock(mutex);
  const auto found = chosen.find(key);
  return found != chosen.end() ? found->second : chosen.emplace(key, choose(key)).first->second;
}

bool is_dense(const at::Tensor& tensor) {
  return tensor.is_contiguous() && is_aligned(tensor, kAlignment);
}

}  // namespace

void equal_products(const at::Tensor& x, const at::Tensor& weight, at::Tensor y) {
  const int64_t count = x.size(0), rows = x.size(1), in = x.size(2), out = weight.size(0);
  DSFT_CHECK(y.sizes() == at::IntArrayRef({count, rows, out}) && weight.size(1) == in && is_dense(x) &&
                 is_dense(weight) && is_dense(y) && weight.scalar_type() == x.scalar_type() &&
                 y.scalar_type() == x.scalar_type(),
             "products of ", x.sizes(), " and ", weight.sizes(), " to ", y.sizes());
  if (count == 0) return;
  const c10::cuda::CUDAGuard guard(x.device());
  const Key key{x.device().index(), type_of(x), rows, in, out};
  const Products products(key.type, rows, in, out, count);
  const float one = 1, zero = 0;
  check(
      cublasLtMatmul(at::cuda::getCurrentCUDABlasLtHandle(), products.operation.get(), &one, weight.const_data_ptr(),
                     products.weight.get(), x.const_data_ptr(), products.x.get(), &zero, y.data_ptr(), products.y.get(),
                     y.data_ptr(), products.y.get(), &algorithm_of(key), nullptr, 0, at::cuda::getCurrentCUDAStream()),
      "cublasLtMatmul");
}

}  // namespace dsft::kernels::cuda
