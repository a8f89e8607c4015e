#include "comm/store_communicator.h"

#include <torch/types.h>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <deque>
#include <exception>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "base/error.h"
#include "comm/rank_order_reduction.h"
#include "comm/socket_mesh.h"

namespace dsft::comm {
namespace {

constexpr std::chrono::seconds kJoinTimeout{120};

/// c10d would try for a minute, with a page of warnings.
void require_known_host(const std::string& host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &found);
  if (error == 0) return ::freeaddrinfo(found);
  fail(ErrorKind::kCommunication, "the host ", host,
       " (MASTER_ADDR), where the ranks are to meet, is not known here: ", ::gai_strerror(error),
       "; set MASTER_ADDR to a name or an address that every host can reach");
}

/// A collective, done by the thread of the mesh.
struct Task {
  std::function<void()> body;
  bool is_done = false;
  std::exception_ptr error;
};

/// The mesh of all ranks, and the thread on which collectives take place in the order in which they were started: so
/// they go on beside the caller's work.
class MeshSession {
 public:
  explicit MeshSession(const Placement& placement) : mesh_(join(placement)), thread_([this] { run(); }) {}
  ~MeshSession() {
    // peers that wait elsewhere need not be waited for while an exception unwinds
    if (std::uncaught_exceptions() > 0) mesh_->shut_down();
    {
      const std::lock_guard lock(mutex_);
      is_over_ = true;
    }
    wake_.notify_all();
    thread_.join();
  }
  MeshSession(const MeshSession&) = delete;
  MeshSession& operator=(const MeshSession&) = delete;

  SocketMesh& mesh() { return *mesh_; }
  std::shared_ptr<Task> start(std::function<void()> body) {
    auto task = std::make_shared<Task>();
    task->body = std::move(body);
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(task);
    }
    wake_.notify_all();
    return task;
  }

  /// Waits for a task, whether it fails or not. While an exception unwinds it is made to fail.
  void finish(const Task& task) {
    if (std::uncaught_exceptions() > 0) mesh_->shut_down();
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return task.is_done; });
  }
  void wait(const Task& task) {
    std::unique_lock lock(mutex_);
    wake_.wait(lock, [&] { return task.is_done; });
    if (task.error) std::rethrow_exception(task.error);
  }

 private:
  /// The store is needed until every rank has read it.
  static std::unique_ptr<SocketMesh> join(const Placement& placement) {
    require_known_host(placement.master_host);
    try {
      c10d::TCPStoreOptions options;
      options.port = static_cast<uint16_t>(placement.master_port);
      options.isServer = placement.rank == 0 && !placement.master_is_agent;
      options.waitWorkers = false;
      options.timeout = kJoinTimeout;
      c10d::TCPStore store(placement.master_host, options);
      // torchrun's store outlives a restart of its ranks
      const char* restart = std::getenv("TORCHELASTIC_RESTART_COUNT");
      const std::string prefix = concat("dsft/", restart ? restart : "0", "/");
      const SocketMesh::Board board{[&](const std::string& key, const std::string& value) {
                                      store.set(prefix + key, std::vector<uint8_t>(value.begin(), value.end()));
                                    },
                                    [&](const std::string& key) {
                                      const std::vector<uint8_t> value = store.get(prefix + key);
                                      return std::string(value.begin(), value.end());
                                    }};
      auto mesh = std::make_unique<SocketMesh>(placement.rank, placement.size, placement.master_host,
                                               placement.master_port, board);
      store.add(prefix + "read", 1);
      // the rank that serves it leaves last
      while (options.isServer && store.add(prefix + "read", 0) < placement.size) {
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
      }
      return mesh;
    } catch (const c10::Error& error) {
      fail(ErrorKind::kCommunication, "the ", placement.size, " ranks have not found each other at ",
           placement.master_host, ":", placement.master_port,
           " (MASTER_ADDR, MASTER_PORT): ", error.what_without_backtrace());
    }
  }

  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return is_over_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      const std::shared_ptr<Task> task = tasks_.front();
      tasks_.pop_front();
      lock.unlock();
      std::exception_ptr error = failure_;
      try {
        if (!error) task->body();
      } catch (...) {
        error = failure_ = std::current_exception();  // the connections are of no use any more
      }
      task->body = nullptr;  // and the tensors that it keeps
      lock.lock();
      task->error = error;
      task->is_done = true;
      wake_.notify_all();
    }
  }

  std::unique_ptr<SocketMesh> mesh_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Task>> tasks_;
  std::exception_ptr failure_;
  bool is_over_ = false;
  std::thread thread_;  // last: it reads the others
};

class MeshWork final : public Work {
 public:
  MeshWork(std::shared_ptr<MeshSession> session, std::shared_ptr<Task> task)
      : session_(std::move(session)), task_(std::move(task)) {}
  void wait() override { session_->wait(*task_); }

 private:
  std::shared_ptr<MeshSession> session_;
  std::shared_ptr<Task> task_;
};

class StoreCommunicator final : public Communicator {
 public:
  /// `members`: their ranks in the mesh, this one's among them at `rank`. `id`: of a communicator among those of the
  /// mesh, equal on its ranks.
  StoreCommunicator(std::shared_ptr<MeshSession> session, std::vector<int> members, int rank, uint64_t id)
      : session_(std::move(session)), members_(std::move(members)), rank_(rank), id_(id) {}
  ~StoreCommunicator() override {
    if (last_) session_->finish(*last_);  // tasks refer to this object
  }
  StoreCommunicator(const StoreCommunicator&) = delete;
  StoreCommunicator& operator=(const StoreCommunicator&) = delete;

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(members_.size()); }

  // Each rank gets every rank's version of its own part, reduces them, and sends the result to all.
  std::unique_ptr<Work> start_all_reduce(at::Tensor& tensor, ReduceOp op) override {
    check_cpu_tensor(tensor, "the tensor");
    return start([=, this, flat = tensor.detach().view(-1), first = number(), second = number()] {
      const int64_t numel = flat.numel();
      const auto part = [&](int rank) { return slice(flat, part_of(numel, size(), rank)); };
      at::Tensor own = part(rank_);
      reduce_in_rank_order(own, gather_own(own, part, first), op);
      Exchange exchange(*this, second);
      for_peers([&](int peer) {
        exchange.send(own, peer);
        exchange.receive(part(peer), peer);
      });
      exchange.run();
    });
  }

  std::unique_ptr<Work> start_reduce_scatter(at::Tensor& output, const at::Tensor& input) override {
    check_cpu_tensor(output, "the output");
    check_cpu_tensor(input, "the input");
    check_slices(input, output, size());
    return start([=, this, target = output.detach().view(-1), source = input.detach().view(-1), what = number()] {
      const int64_t numel = target.numel();
      at::Tensor reduced = target;
      reduce_in_rank_order(reduced,
                           gather_own(
                               target, [&](int rank) { return source.narrow(0, rank * numel, numel); }, what),
                           ReduceOp::kSum);
    });
  }

  std::unique_ptr<Work> start_all_gather(at::Tensor& output, const at::Tensor& input) override {
    check_cpu_tensor(output, "the output");
    check_cpu_tensor(input, "the input");
    check_slices(output, input, size());
    return start([=, this, target = output.detach().view(-1), source = input.detach().view(-1), what = number()] {
      const at::NoGradGuard no_grad;
      const int64_t numel = source.numel();
      const auto part = [&](int rank) { return target.narrow(0, rank * numel, numel); };
      part(rank_).copy_(source);
      Exchange exchange(*this, what);
      for_peers([&](int peer) {
        exchange.send(source, peer);
        exchange.receive(part(peer), peer);
      });
      exchange.run();
    });
  }

  std::unique_ptr<Work> start_broadcast(at::Tensor& tensor, int root) override {
    check_cpu_tensor(tensor, "the tensor");
    DSFT_CHECK(root >= 0 && root < size(), "broadcast from rank ", root, " of ", size());
    return start([=, this, flat = tensor.detach().view(-1), what = number()] {
      Exchange exchange(*this, what);
      if (rank_ == root)
        for_peers([&](int peer) { exchange.send(flat, peer); });
      else
        exchange.receive(flat, root);
      exchange.run();
    });
  }

  void barrier() override {
    at::Tensor nothing = at::zeros({1}, at::kByte);
    at::Tensor all = at::zeros({size()}, at::kByte);
    start_all_gather(all, nothing)->wait();
  }

  std::unique_ptr<Communicator> split(int color, int key) override {
    at::Tensor own = at::tensor({color, key}, at::kLong), all = at::empty({2 * size()}, at::kLong);
    start_all_gather(all, own)->wait();
    const int64_t* pairs = all.const_data_ptr<int64_t>();
    std::vector<int> chosen;
    for (int rank = 0; rank < size(); ++rank)
      if (pairs[2 * rank] == color) chosen.push_back(rank);
    std::stable_sort(chosen.begin(), chosen.end(), [&](int a, int b) { return pairs[2 * a + 1] < pairs[2 * b + 1]; });
    const auto own_place = std::find(chosen.begin(), chosen.end(), rank_) - chosen.begin();
    for (int& rank : chosen) rank = members_[static_cast<size_t>(rank)];
    return std::make_unique<StoreCommunicator>(session_, std::move(chosen), static_cast<int>(own_place),
                                               id_ * 1000 + ++num_splits_);
  }

  /// Closes the connections, which ends the peers' collectives with an error; this process goes on to its own.
  void abort(int, const std::string&) noexcept override { session_->mesh().shut_down(); }

 private:
  /// What goes over at once.
  class Exchange {
   public:
    Exchange(const StoreCommunicator& self, uint64_t what) : self_(self), what_(what) {}
    void send(const at::Tensor& part, int peer) { sends_.push_back(transfer(part, peer)); }
    void receive(const at::Tensor& part, int peer) { receives_.push_back(transfer(part, peer)); }
    void run() { self_.session_->mesh().exchange(sends_, receives_, what_); }

   private:
    Transfer transfer(const at::Tensor& part, int peer) const {
      return {self_.members_[static_cast<size_t>(peer)], part.data_ptr(), part.nbytes()};
    }
    const StoreCommunicator& self_;
    uint64_t what_;
    std::vector<Transfer> sends_, receives_;
  };

  uint64_t number() { return (id_ << 40) + ++num_collectives_; }

  /// Every rank's version of this rank's part, by rank.
  template <typename PartOf>
  std::vector<at::Tensor> gather_own(const at::Tensor& own, PartOf part, uint64_t what) const {
    std::vector<at::Tensor> contributions(static_cast<size_t>(size()));
    contributions[static_cast<size_t>(rank_)] = part(rank_);
    Exchange exchange(*this, what);
    for_peers([&](int peer) {
      at::Tensor& theirs = contributions[static_cast<size_t>(peer)];
      theirs = at::empty_like(own);
      exchange.send(part(peer), peer);
      exchange.receive(theirs, peer);
    });
    exchange.run();
    return contributions;
  }

  template <typename Body>
  void for_peers(Body body) const {
    for (int i = 1; i < size(); ++i) body((rank_ + i) % size());
  }

  std::unique_ptr<Work> start(std::function<void()> body) {
    last_ = session_->start(std::move(body));
    return std::make_unique<MeshWork>(session_, last_);
  }

  std::shared_ptr<MeshSession> session_;
  std::vector<int> members_;
  int rank_;
  uint64_t id_, num_splits_ = 0, num_collectives_ = 0;
  std::shared_ptr<Task> last_;
};

}  // namespace

std::unique_ptr<Communicator> make_store_communicator(const Placement& placement) {
  std::vector<int> members(static_cast<size_t>(placement.size));
  std::iota(members.begin(), members.end(), 0);
  return std::make_unique<StoreCommunicator>(std::make_shared<MeshSession>(placement), std::move(members),
                                             placement.rank, /*id=*/0);
}

}  // namespace dsft::comm
