#define CUDNN_FRONTEND_SKIP_JSON_LIB
#define NV_CUDNN_FRONTEND_USE_DYNAMIC_LOADING  // no link to the driver's libcuda, which machines without a GPU lack
#include <ATen/Context.h>
#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAGuard.h>
#include <cudnn_frontend.h>
#include <dlfcn.h>
#include <torch/types.h>

#include <bit>
#include <map>
#include <mutex>
#include <tuple>

#include "base/error.h"
#include "device/device.h"
#include "kernels/cudnn_attention.h"

namespace cudnn_frontend {
void* cudnn_dlhandle = nullptr;  // where the front end looks its functions up
}

namespace dsft::kernels::cudnn {
namespace {

namespace fe = cudnn_frontend;
using Graph = fe::graph::Graph;
using Attributes = fe::graph::Tensor_attributes;
using TensorPtr = std::shared_ptr<Attributes>;

constexpr int64_t kTokenBucket = 4096;
constexpr int64_t kSmallestLength = 128;

/// What a plan is made for. Equal keys share a plan; lengths inside the buckets are data.
struct Key {
  int device;
  bool is_backward, is_bfloat16;
  int64_t documents, longest, tokens, heads, kv_heads, head_dim, value_stride, window;
  double scale;
  auto operator<=>(const Key&) const = default;
};

enum Uid : int64_t {
  kQ = 1,
  kK,
  kV,
  kOut,
  kStatistics,
  kGradient,
  kDq,
  kDk,
  kDv,
  kQStarts,
  kKStarts,
  kVStarts,
  kStatStarts,
  kLengths
};

/// A graph with its plan; empty where cuDNN has none.
struct Plan {
  std::shared_ptr<Graph> graph;
  int64_t workspace_bytes = 0;
};

int64_t round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}
int64_t power_of_two(int64_t value) {
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(value)));
}

Key key_of(const at::TensorOptions& options, const Shape& shape, const Documents& documents, bool is_backward) {
  const auto count = static_cast<int64_t>(documents.boundaries.size()) - 1;
  return {.device = options.device().index(),
          .is_backward = is_backward,
          .is_bfloat16 = options.dtype() == at::kBFloat16,
          .documents = power_of_two(count),
          .longest = std::max(kSmallestLength, power_of_two(documents.longest)),
          .tokens = is_backward ? round_up(documents.boundaries.back(), kTokenBucket) : 0,
          .heads = shape.heads,
          .kv_heads = shape.kv_heads,
          .head_dim = shape.head_dim,
          .value_stride = shape.value_stride,
          .window = shape.window,
          .scale = shape.scale};
}

Shape shape_of(const at::Tensor& q, const at::Tensor& v, double scale, int64_t window) {
  return {q.size(1), v.size(1), q.size(2), v.stride(0), scale, window};
}

/// Makes the graphs of one key.
class GraphBuilder {
 public:
  explicit GraphBuilder(const Key& key) : key_(key), graph_(std::make_shared<Graph>()) {
    graph_->set_io_data_type(key.is_bfloat16 ? fe::DataType_t::BFLOAT16 : fe::DataType_t::HALF)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    q_starts_ = starts(kQStarts);
    k_starts_ = starts(kKStarts);
    v_starts_ = starts(kVStarts);
    statistics_starts_ = starts(kStatStarts);
    lengths_ = graph_->tensor(Attributes()
                                  .set_uid(kLengths)
                                  .set_dim({key.documents, 1, 1, 1})
                                  .set_stride({1, 1, 1, 1})
                                  .set_data_type(fe::DataType_t::INT32));
  }

  std::shared_ptr<Graph> forward() {
    const TensorPtr q = input(kQ, key_.heads, q_starts_), k = input(kK, key_.kv_heads, k_starts_), v = value(kV);
    auto options = masked(fe::graph::SDPA_attributes().set_name("attention").set_generate_stats(true));
    auto [out, statistics] = graph_->sdpa(q, k, v, options);
    output(out, kOut, key_.heads, q_starts_);
    statistics->set_output(true).set_uid(kStatistics).set_data_type(fe::DataType_t::FLOAT);
    lay_out_statistics(*statistics);
    return graph_;
  }

  std::shared_ptr<Graph> backward() {
    const TensorPtr q = input(kQ, key_.heads, q_starts_), k = input(kK, key_.kv_heads, k_starts_), v = value(kV),
                    out = input(kOut, key_.heads, q_starts_), gradient = input(kGradient, key_.heads, q_starts_);
    Attributes statistics_attributes;
    statistics_attributes.set_uid(kStatistics).set_data_type(fe::DataType_t::FLOAT);
    lay_out_statistics(statistics_attributes);
    const TensorPtr statistics = graph_->tensor(statistics_attributes);
    auto options = masked(fe::graph::SDPA_backward_attributes()
                              .set_name("attention_backward")
                              .set_max_total_seq_len_q(key_.tokens)
                              .set_max_total_seq_len_kv(key_.tokens));
    auto [dq, dk, dv] = graph_->sdpa_backward(q, k, v, out, gradient, statistics, options);
    output(dq, kDq, key_.heads, q_starts_);
    output(dk, kDk, key_.kv_heads, k_starts_);
    // dense: for each query head of a group cuDNN's scratch memory has rows as far apart as dv's
    output(dv, kDv, key_.kv_heads, k_starts_);
    return graph_;
  }

 private:
  TensorPtr starts(Uid uid) {
    return graph_->tensor(Attributes()
                              .set_uid(uid)
                              .set_dim({key_.documents + 1, 1, 1, 1})
                              .set_stride({1, 1, 1, 1})
                              .set_data_type(fe::DataType_t::INT64));
  }
  void lay_out(Attributes& attributes, int64_t heads, int64_t token_stride, const TensorPtr& ragged) {
    attributes.set_dim({key_.documents, heads, key_.longest, key_.head_dim})
        .set_stride({key_.longest * token_stride, key_.head_dim, token_stride, 1})
        .set_ragged_offset(ragged);
  }
  void lay_out_statistics(Attributes& attributes) {
    attributes.set_dim({key_.documents, key_.heads, key_.longest, 1})
        .set_stride({key_.longest * key_.heads, 1, key_.heads, 1})
        .set_ragged_offset(statistics_starts_);
  }
  TensorPtr input(Uid uid, int64_t heads, const TensorPtr& ragged) {
    Attributes attributes;
    attributes.set_uid(uid);
    lay_out(attributes, heads, heads * key_.head_dim, ragged);
    return graph_->tensor(attributes);
  }
  TensorPtr value(Uid uid) {
    Attributes attributes;
    attributes.set_uid(uid);
    lay_out(attributes, key_.kv_heads, key_.value_stride, v_starts_);
    return graph_->tensor(attributes);
  }
  void output(const TensorPtr& tensor, Uid uid, int64_t heads, const TensorPtr& ragged) {
    tensor->set_output(true).set_uid(uid);
    lay_out(*tensor, heads, heads * key_.head_dim, ragged);
  }
  template <typename Options>
  Options masked(Options options) {
    options.set_attn_scale(static_cast<float>(key_.scale))
        .set_padding_mask(true)
        .set_seq_len_q(lengths_)
        .set_seq_len_kv(lengths_)
        .set_causal_mask(true);
    if (key_.window > 0) options.set_diagonal_band_left_bound(key_.window);
    return options;
  }

  const Key& key_;
  std::shared_ptr<Graph> graph_;
  TensorPtr q_starts_, k_starts_, v_starts_, statistics_starts_, lengths_;
};

/// A lack of memory is torch's OutOfMemoryError, so that who can do with less sees it.
[[noreturn]] void fail_of_cudnn(const char* what, const std::string& message) {
  TORCH_CHECK_WITH(OutOfMemoryError, !device::says_out_of_memory(message), what, " failed: ", message);
  fail(ErrorKind::kDevice, what, " failed: ", message);
}

/// cuDNN's handles and plans of this process. One thread at a time: enqueuing takes microseconds.
class Library {
 public:
  static Library& get() {
    static Library library;
    return library;
  }

  /// Builds the plan of a key where there is none.
  void prepare(const Key& key) {
    const std::lock_guard lock(mutex_);
    plan_of(key, handle_of(key.device));
  }

  int64_t num_plans() {
    const std::lock_guard lock(mutex_);
    return static_cast<int64_t>(plans_.size());
  }

  /// Runs the graph of a key; false where cuDNN has no plan for it.
  bool run(const Key& key, std::unordered_map<int64_t, void*>& pointers, at::TensorOptions options) {
    const std::lock_guard lock(mutex_);
    const cudnnHandle_t handle = handle_of(key.device);
    require(fe::detail::set_stream(handle, c10::cuda::getCurrentCUDAStream(key.device).stream()), "cudnnSetStream");
    const Plan& plan = plan_of(key, handle);
    if (!plan.graph) return false;
    const at::Tensor workspace = at::empty({std::max<int64_t>(1, plan.workspace_bytes)}, options.dtype(at::kByte));
    auto status = plan.graph->execute(handle, pointers, workspace.data_ptr());
    if (status.is_bad()) fail_of_cudnn("cuDNN's attention", status.get_message());
    return true;
  }

 private:
  // the library that LibTorch has loaded
  Library() {
    fe::cudnn_dlhandle = ::dlopen("libcudnn.so.9", RTLD_NOW);
    if (fe::cudnn_dlhandle == nullptr) fail(ErrorKind::kDevice, "libcudnn.so.9 cannot be loaded: ", ::dlerror());
  }

  static void require(cudnnStatus_t status, const char* call) {
    if (status != CUDNN_STATUS_SUCCESS) fail_of_cudnn(call, fe::detail::get_error_string(status));
  }

  cudnnHandle_t handle_of(int device) {
    cudnnHandle_t& handle = handles_[device];
    if (handle == nullptr) require(fe::detail::create_handle(&handle), "cudnnCreate");
    return handle;
  }

  const Plan& plan_of(const Key& key, cudnnHandle_t handle) {
    const auto found = plans_.find(key);
    return found != plans_.end() ? found->second : plans_.emplace(key, make_plan(key, handle)).first->second;
  }

  static Plan make_plan(const Key& key, cudnnHandle_t handle) {
    Plan plan;
    fe::error_t status = build(key, handle, plan);
    if (status.get_code() == fe::error_code_t::GRAPH_NOT_SUPPORTED) return plan;
    if (status.is_bad()) {
      // torch may keep all memory for later tensors, and then none is left to load a kernel
      c10::cuda::CUDACachingAllocator::emptyCache();
      status = build(key, handle, plan);
    }
    // a lack of memory says nothing of the key: a later call may find more
    if (status.is_bad() && device::says_out_of_memory(status.get_message()))
      fail_of_cudnn("Building a plan of cuDNN's attention", status.get_message());
    return plan;
  }

  static fe::error_t build(const Key& key, cudnnHandle_t handle, Plan& plan) {
    GraphBuilder builder(key);
    const auto graph = key.is_backward ? builder.backward() : builder.forward();
    if (auto status = graph->build(handle, {fe::HeurMode_t::A}); status.is_bad()) return status;
    if (auto status = graph->get_workspace_size(plan.workspace_bytes); status.is_bad()) return status;
    plan.graph = graph;
    return {};
  }

  std::mutex mutex_;
  std::map<int, cudnnHandle_t> handles_;
  std::map<Key, Plan> plans_;
};

/// Where each document starts in the buffers, and how long it is, on the device; documents that fill the bucket are
/// empty.
struct Offsets {
  int64_t documents, heads, kv_heads, head_dim, value_stride;  // of the key that they were made for
  at::Tensor q_starts, k_starts, v_starts, statistics_starts;  // int64, in elements
  at::Tensor lengths;                                          // int32
};

Offsets offsets_of(const Key& key, const Documents& documents) {
  const at::Tensor& given = documents.on_device;
  const int64_t num_empty = key.documents + 1 - given.numel();
  const at::Tensor end = given.narrow(0, given.numel() - 1, 1).expand({num_empty});
  const at::Tensor starts = num_empty > 0 ? torch::cat({given, end}) : given;
  const at::Tensor tokens = starts.to(at::kLong);
  return {key.documents,
          key.heads,
          key.kv_heads,
          key.head_dim,
          key.value_stride,
          tokens * (key.heads * key.head_dim),
          tokens * (key.kv_heads * key.head_dim),
          tokens * key.value_stride,
          tokens * key.heads,
          starts.diff()};
}

bool fits(const Offsets& offsets, const Key& key) {
  return std::tie(offsets.documents, offsets.heads, offsets.kv_heads, offsets.head_dim, offsets.value_stride) ==
         std::tie(key.documents, key.heads, key.kv_heads, key.head_dim, key.value_stride);
}

/// Made by the first layer of a batch, read by the others of the same shape.
std::shared_ptr<const Offsets> cached_offsets(const Key& key, const Documents& documents) {
  auto cached = std::static_pointer_cast<const Offsets>(documents.of_kernel);
  if (cached && fits(*cached, key)) return cached;
  cached = std::make_shared<const Offsets>(offsets_of(key, documents));
  documents.of_kernel = cached;
  return cached;
}

std::unordered_map<int64_t, void*> common_pointers(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                                   const Attended& attended, const Offsets& offsets) {
  return {{kQ, q.data_ptr()},
          {kK, k.data_ptr()},
          {kV, v.data_ptr()},
          {kOut, attended.out.data_ptr()},
          {kStatistics, attended.statistics.data_ptr()},
          {kQStarts, offsets.q_starts.data_ptr()},
          {kKStarts, offsets.k_starts.data_ptr()},
          {kVStarts, offsets.v_starts.data_ptr()},
          {kStatStarts, offsets.statistics_starts.data_ptr()},
          {kLengths, offsets.lengths.data_ptr()}};
}

}  // namespace

bool may_take(const at::TensorOptions& options, int64_t head_dim) {
  const bool is_16_bit = options.dtype() == at::kBFloat16 || options.dtype() == at::kHalf;
  if (!options.device().is_cuda() || !is_16_bit || head_dim % 8 != 0 || head_dim > 128) return false;
  // cuDNN 9.18 and newer have no backward pass with ragged statistics on 8.x and 12.x, and the deterministic one wants
  // memory that grows with the square of the longest document
  const int major = at::cuda::getDeviceProperties(options.device().index())->major;
  return (major == 9 || major == 10) && !at::globalContext().deterministicAlgorithms();
}

void prepare(const at::TensorOptions& options, const Shape& shape, const Documents& documents) {
  const c10::cuda::CUDAGuard guard(options.device());
  for (const bool is_backward : {false, true}) Library::get().prepare(key_of(options, shape, documents, is_backward));
}

int64_t num_plans() {
  return Library::get().num_plans();
}

std::optional<Attended> forward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                const Documents& documents, double scale, int64_t window) {
  const c10::cuda::CUDAGuard guard(q.device());
  const Key key = key_of(q.options(), shape_of(q, v, scale, window), documents, /*is_backward=*/false);
  Attended attended{at::empty_like(q), at::empty({q.size(0), q.size(1)}, q.options().dtype(at::kFloat))};
  auto pointers = common_pointers(q, k, v, attended, *cached_offsets(key, documents));
  if (!Library::get().run(key, pointers, q.options())) return std::nullopt;
  return attended;
}

std::optional<AttentionGradients> backward(const at::Tensor& gradient, const at::Tensor& q, const at::Tensor& k,
                                           const at::Tensor& v, const Attended& attended, const Documents& documents,
                                           double scale, int64_t window) {
  const c10::cuda::CUDAGuard guard(q.device());
  const Key key = key_of(q.options(), shape_of(q, v, scale, window), documents, /*is_backward=*/true);
  AttentionGradients gradients{at::empty_like(q), at::empty_like(k), at::empty_like(k)};
  auto pointers = common_pointers(q, k, v, attended, *cached_offsets(key, documents));
  pointers[kGradient] = gradient.data_ptr();
  pointers[kDq] = gradients.q.data_ptr();
  pointers[kDk] = gradients.k.data_ptr();
  pointers[kDv] = gradients.v.data_ptr();
  if (!Library::get().run(key, pointers, q.options())) return std::nullopt;
  return gradients;
}

}  // namespace dsft::kernels::cudnn
