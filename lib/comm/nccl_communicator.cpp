#include "comm/nccl_communicator.h"

#include <ATen/cuda/CUDAEvent.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <nccl.h>
#include <torch/types.h>

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <string>
#include <thread>

#include "base/error.h"
#include "comm/rank_order_reduction.h"
#include "comm/small_collectives.h"
#include "device/device.h"
#include "device/shareable_memory.h"

namespace dsft::comm {
namespace {

constexpr std::chrono::milliseconds kBetweenLooks{200};

void check_nccl(ncclResult_t result, const char* call, ncclComm_t communicator = nullptr) {
  if (result == ncclSuccess) return;
  const char* last = ncclGetLastError(communicator);
  const std::string detail = last != nullptr && *last != '\0' ? concat(" (", last, ")") : std::string();
  // its buffers found no room
  const bool is_short = device::says_out_of_memory(detail);
  fail(is_short ? ErrorKind::kDevice : ErrorKind::kCommunication, call, ": ", ncclGetErrorString(result), detail,
       "; NCCL_DEBUG=INFO has NCCL say more");
}

ncclDataType_t nccl_type(const at::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case at::kFloat:
      return ncclFloat32;
    case at::kDouble:
      return ncclFloat64;
    case at::kBFloat16:
      return ncclBfloat16;
    case at::kHalf:
      return ncclFloat16;
    case at::kInt:
      return ncclInt32;
    case at::kLong:
      return ncclInt64;
    case at::kByte:
      return ncclUint8;
    default:
      DSFT_CHECK(false, "NCCL carries no ", c10::toString(tensor.scalar_type()));
  }
}

ncclRedOp_t nccl_op(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return ncclSum;
    case ReduceOp::kMax:
      return ncclMax;
    case ReduceOp::kMin:
      return ncclMin;
  }
  DSFT_CHECK(false, "an unknown reduction");
}

/// An NCCL communicator, and a thread that looks whether it has failed: then it is aborted, which also ends kernels
/// that wait for a peer, and with them the host's wait for the device.
class WatchedComm {
 public:
  explicit WatchedComm(ncclComm_t comm) : comm_(comm), watcher_([this] { watch(); }) {}
  ~WatchedComm() {
    {
      const std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    wake_.notify_all();
    watcher_.join();
    if (!failure_.empty()) return;  // aborted
    // peers that still work need not be waited for while an exception unwinds
    if (std::uncaught_exceptions() > 0)
      ncclCommAbort(comm_);
    else
      ncclCommDestroy(comm_);
  }
  WatchedComm(const WatchedComm&) = delete;
  WatchedComm& operator=(const WatchedComm&) = delete;

  /// Calls body(comm) unless it has failed, which is thrown; `call` names what is called.
  template <typename Body>
  void use(const char* call, Body body) {
    const std::lock_guard lock(mutex_);
    throw_failure();
    check_nccl(body(comm_), call, comm_);
  }
  void check() {
    const std::lock_guard lock(mutex_);
    throw_failure();
  }

 private:
  void throw_failure() const {
    if (!failure_.empty()) fail(ErrorKind::kCommunication, failure_);
  }
  void watch() {
    std::unique_lock lock(mutex_);
    while (!wake_.wait_for(lock, kBetweenLooks, [this] { return is_over_; })) {
      ncclResult_t state = ncclSuccess;
      if (ncclCommGetAsyncError(comm_, &state) == ncclSuccess && (state == ncclSuccess || state == ncclInProgress))
        continue;
      failure_ = concat("NCCL lost its peers: ", ncclGetErrorString(state), " (", ncclGetLastError(comm_), ")");
      ncclCommAbort(comm_);
      return;
    }
  }

  ncclComm_t comm_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool is_over_ = false;
  std::string failure_;
  std::thread watcher_;  // last: it reads the others
};

class NcclWork final : public Work {
 public:
  NcclWork(WatchedComm& comm, c10::Device device, std::vector<at::Tensor> tensors, c10::cuda::CUDAStream stream)
      : comm_(comm), device_(device), tensors_(std::move(tensors)) {
    end_.record(stream);
  }
  void wait() override {
    comm_.check();
    end_.block(c10::cuda::getCurrentCUDAStream(device_.index()));
    tensors_.clear();  // what takes their memory now comes later on that stream
  }

 private:
  WatchedComm& comm_;
  c10::Device device_;
  std::vector<at::Tensor> tensors_;
  at::cuda::CUDAEvent end_;
};

// As NCCL's own variables say it, for hosts on which GPUs read each other's memory wrongly.
bool forbids_peer_access() {
  const char* disable = std::getenv("NCCL_P2P_DISABLE");
  const char* level = std::getenv("NCCL_P2P_LEVEL");
  return (disable && std::string(disable) == "1") ||
         (level && (std::string(level) == "LOC" || std::string(level) == "0"));
}

/// A slice of this rank that the others read in place, and theirs.
struct SharedSlice {
  std::unique_ptr<device::ShareableMemory> own;
  std::vector<std::unique_ptr<device::MappedMemory>> others;  // by rank; null: this one
  size_t num_bytes = 0;
};

class NcclCommunicator final : public Communicator {
 public:
  NcclCommunicator(c10::Device device, int rank, int size, ncclComm_t comm)
      : device_(device),
        rank_(rank),
        size_(size),
        comm_(comm),
        stream_(c10::cuda::getStreamFromPool(/*isHighPriority=*/true, device.index())) {}

  // Memory is given back once nobody maps it. While an exception unwinds, peers need not be waited for, and all is left
  // to the end of the process.
  ~NcclCommunicator() override {
    if (slices_.empty()) return;
    bool is_over = std::uncaught_exceptions() == 0;
    try {
      if (is_over) barrier();
      for (auto& [address, slice] : slices_) leave(slice, is_over);
      if (is_over) barrier();
    } catch (const std::exception&) {
      is_over = false;
    }
    for (auto& [address, slice] : slices_)
      if (!is_over) (void)slice.own.release();
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }

  std::unique_ptr<Work> start_all_reduce(at::Tensor& tensor, ReduceOp op) override {
    return start("ncclAllReduce", {tensor}, [&](ncclComm_t comm) {
      return ncclAllReduce(tensor.const_data_ptr(), tensor.mutable_data_ptr(), count(tensor), nccl_type(tensor),
                           nccl_op(op), comm, stream_.stream());
    });
  }

  std::unique_ptr<Work> start_reduce_scatter(at::Tensor& output, const at::Tensor& input) override {
    check_slices(input, output, size_);
    return start("ncclReduceScatter", {output, input}, [&](ncclComm_t comm) {
      return ncclReduceScatter(input.const_data_ptr(), output.mutable_data_ptr(), count(output), nccl_type(output),
                               ncclSum, comm, stream_.stream());
    });
  }

  at::Tensor make_slice(int64_t size, const at::TensorOptions& options) override {
    if (can_share_ && size_ > 1 && size > 0) {
      SharedSlice slice;
      slice.num_bytes = static_cast<size_t>(size) * options.dtype().itemsize();
      slice.own = std::make_unique<device::ShareableMemory>(static_cast<int64_t>(slice.num_bytes), device_.index());
      can_share_ = map_others(slice);  // the same on all ranks
      if (can_share_) {
        void* data = slice.own->data();
        slices_.emplace(data, std::move(slice));
        return at::from_blob(data, {size}, options);
      }
    }
    return Communicator::make_slice(size, options);
  }
  bool reads_slices_in_place() const override { return !slices_.empty(); }

  std::unique_ptr<Work> start_all_gather(at::Tensor& output, const at::Tensor& input) override {
    check_slices(output, input, size_);
    const auto shared = slices_.find(input.const_data_ptr());
    if (shared != slices_.end() && shared->second.num_bytes == input.nbytes())
      return copy_all(output, input, shared->second);
    return start("ncclAllGather", {output, input}, [&](ncclComm_t comm) {
      return ncclAllGather(input.const_data_ptr(), output.mutable_data_ptr(), count(input), nccl_type(input), comm,
                           stream_.stream());
    });
  }

  std::unique_ptr<Work> start_broadcast(at::Tensor& tensor, int root) override {
    DSFT_CHECK(root >= 0 && root < size_, "broadcast from rank ", root, " of ", size_);
    return start("ncclBroadcast", {tensor}, [&](ncclComm_t comm) {
      return ncclBroadcast(tensor.const_data_ptr(), tensor.mutable_data_ptr(), count(tensor), nccl_type(tensor), root,
                           comm, stream_.stream());
    });
  }

  void barrier() override {
    at::Tensor flag = at::zeros({1}, at::TensorOptions(at::kInt).device(device_));
    start_all_reduce(flag, ReduceOp::kSum)->wait();
    c10::cuda::getCurrentCUDAStream(device_.index()).synchronize();
    comm_.check();
  }

  void check() override { comm_.check(); }

  std::unique_ptr<Communicator> split(int color, int key) override {
    const c10::cuda::CUDAGuard guard(device_);
    ncclComm_t child = nullptr;
    comm_.use("ncclCommSplit", [&](ncclComm_t comm) { return ncclCommSplit(comm, color, key, &child, nullptr); });
    int rank = 0, size = 0;
    check_nccl(ncclCommUserRank(child, &rank), "ncclCommUserRank");
    check_nccl(ncclCommCount(child, &size), "ncclCommCount");
    return std::make_unique<NcclCommunicator>(device_, rank, size, child);
  }

  // The processes of the job are ended by the communicator that controls them.
  void abort(int, const std::string&) noexcept override {}

 private:
  // What the other ranks map, or (while an exception unwinds) leaves it mapped.
  static void leave(SharedSlice& slice, bool unmaps) {
    for (auto& other : slice.others)
      if (!unmaps) (void)other.release();
    slice.others.clear();
  }

  // Whether all ranks can read all slices. Where they cannot, none has any mapped.
  bool map_others(SharedSlice& slice) {
    constexpr int64_t kBytes = device::ShareableMemory::kHandleBytes;
    std::string own = slice.own->handle();
    own.resize(kBytes);
    const at::TensorOptions bytes(at::kByte);
    at::Tensor handles = at::empty({size_, kBytes}, bytes.device(device_));
    start_all_gather(handles, at::from_blob(own.data(), {kBytes}, bytes).to(device_))->wait();
    handles = handles.cpu();
    slice.others.resize(static_cast<size_t>(size_));
    bool are_mapped = !forbids_peer_access();
    for (int other = 0; other < size_ && are_mapped; ++other) {
      if (other == rank_) continue;
      auto& memory = slice.others[static_cast<size_t>(other)];
      memory = device::MappedMemory::map({static_cast<const char*>(handles[other].const_data_ptr()), kBytes},
                                         device_.index());
      are_mapped = memory != nullptr;
    }
    if (all_ranks_say(are_mapped)) return true;
    slice.others.clear();
    all_ranks_say(true);  // now nobody maps what is given back next
    return false;
  }

  bool all_ranks_say(bool yes) {
    at::Tensor flag = at::full({1}, yes ? 1 : 0, at::TensorOptions(at::kInt).device(device_));
    start_all_reduce(flag, ReduceOp::kMin)->wait();
    return flag.item<int>() == 1;
  }

  // Once all ranks have come here; each begins with another one's slice.
  std::unique_ptr<Work> copy_all(at::Tensor& output, const at::Tensor& input, const SharedSlice& slice) {
    if (!arrived_.defined()) arrived_ = at::zeros({1}, at::TensorOptions(at::kInt).device(device_));
    return start("ncclAllReduce (before a gather)", {output, input}, [&](ncclComm_t comm) {
      void* arrived = arrived_.mutable_data_ptr();
      const ncclResult_t result = ncclAllReduce(arrived, arrived, 1, ncclInt32, ncclMax, comm, stream_.stream());
      if (result != ncclSuccess) return result;
      auto* to = static_cast<char*>(output.mutable_data_ptr());
      for (int i = 1; i <= size_; ++i) {
        const int other = (rank_ + i) % size_;
        const void* from = other == rank_ ? slice.own->data() : slice.others[static_cast<size_t>(other)]->data();
        const cudaError_t copied = cudaMemcpyAsync(to + static_cast<size_t>(other) * slice.num_bytes, from,
                                                   slice.num_bytes, cudaMemcpyDeviceToDevice, stream_.stream());
        if (copied != cudaSuccess)
          fail(ErrorKind::kCommunication, "a copy from GPU to GPU: ", cudaGetErrorString(copied));
      }
      return result;
    });
  }

  static size_t count(const at::Tensor& tensor) { return static_cast<size_t>(tensor.numel()); }

  // What the current stream has been given comes before the collective.
  template <typename Call>
  std::unique_ptr<Work> start(const char* name, std::vector<at::Tensor> tensors, Call call) {
    for (const at::Tensor& tensor : tensors)
      DSFT_CHECK(
          tensor.device() == device_ && tensor.is_contiguous() && tensor.scalar_type() == tensors[0].scalar_type(),
          name, " of a tensor with gaps, or of another device or type: ", tensor.toString(), " ", tensor.sizes(),
          " on ", tensor.device().str());
    const c10::cuda::CUDAGuard guard(device_);
    at::cuda::CUDAEvent before;
    before.record(c10::cuda::getCurrentCUDAStream(device_.index()));
    before.block(stream_);
    comm_.use(name, call);
    return std::make_unique<NcclWork>(comm_, device_, std::move(tensors), stream_);
  }

  c10::Device device_;
  int rank_, size_;
  WatchedComm comm_;
  c10::cuda::CUDAStream stream_;
  std::map<const void*, SharedSlice> slices_;  // by address
  bool can_share_ = true;                      // the same on all ranks
  at::Tensor arrived_;
};

}  // namespace

std::unique_ptr<Communicator> make_nccl_communicator(c10::Device device, Communicator& control) {
  const c10::cuda::CUDAGuard guard(device);
  ncclUniqueId id;
  std::string bytes;
  if (control.rank() == 0) {
    check_nccl(ncclGetUniqueId(&id), "ncclGetUniqueId");
    bytes.assign(id.internal, sizeof id.internal);
  }
  bytes = broadcast_bytes(control, bytes);
  DSFT_CHECK(bytes.size() == sizeof id.internal, "an NCCL id of ", bytes.size(), " bytes");
  std::memcpy(id.internal, bytes.data(), bytes.size());
  ncclComm_t comm = nullptr;
  check_nccl(ncclCommInitRank(&comm, control.size(), id, control.rank()), "ncclCommInitRank");
  return std::make_unique<NcclCommunicator>(device, control.rank(), control.size(), comm);
}

}  // namespace dsft::comm
