#include <torch/types.h>

#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <map>
#include <mutex>
#include <stdexcept>
#include <thread>

#include "base/error.h"
#include "catch_amalgamated.hpp"
#include "comm/compared_communicator.h"
#include "comm/make_communicator.h"
#include "comm/placement.h"
#include "comm/single_process_communicator.h"
#include "comm/small_collectives.h"
#include "comm/store_communicator.h"
#include "comm/thread_ranks.h"
#include "device/cuda_device.h"
#include "device/device.h"
#include "support/require_error.h"

using namespace dsft;
using comm::Communicator;
using comm::ReduceOp;

namespace {

// Catch2's assertions belong to the test's own thread, so ranks report by exception.
void expect(bool condition, const std::string& what) {
  if (!condition) throw std::runtime_error("wrong: " + what);
}

at::Tensor values_of(int rank, int64_t numel, at::ScalarType type) {
  return (at::arange(numel, at::kDouble) % 13 * 0.37 + rank * 1.3 + 0.1).to(type);
}

at::Tensor sum_in_rank_order(int size, int64_t numel, at::ScalarType type) {
  const bool is_16_bit = type == at::kBFloat16 || type == at::kHalf;
  at::Tensor total = values_of(0, numel, type).to(is_16_bit ? at::kFloat : type);
  for (int rank = 1; rank < size; ++rank) total = total + values_of(rank, numel, type).to(total.scalar_type());
  return total.to(type);
}

void check_all_reduce(Communicator& communicator) {
  for (at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kInt, at::kLong, at::kByte}) {
    for (int64_t numel : {0, 1, 7, 4099}) {
      at::Tensor tensor = values_of(communicator.rank(), numel, type);
      communicator.all_reduce(tensor);
      expect(at::equal(tensor, sum_in_rank_order(communicator.size(), numel, type)),
             concat("all_reduce of ", numel, " x ", at::toString(type)));
    }
  }
  at::Tensor largest = at::full({3}, communicator.rank() * 2.0);
  communicator.all_reduce(largest, ReduceOp::kMax);
  expect(at::equal(largest, at::full({3}, (communicator.size() - 1) * 2.0)), "all_reduce by maximum");
  at::Tensor smallest = at::full({2, 3}, communicator.rank() + 5, at::kLong);
  communicator.all_reduce(smallest, ReduceOp::kMin);
  expect(at::equal(smallest, at::full({2, 3}, 5, at::kLong)), "all_reduce by minimum");
}

void check_scatter_and_gather(Communicator& communicator) {
  const int size = communicator.size(), rank = communicator.rank();
  at::Tensor slice = at::empty({5});
  communicator.reduce_scatter(slice, values_of(rank, 5 * size, at::kFloat));
  expect(at::equal(slice, sum_in_rank_order(size, 5 * size, at::kFloat).narrow(0, 5 * rank, 5)), "reduce_scatter");
  at::Tensor whole = at::empty({size, 6}, at::kBFloat16);
  communicator.all_gather(whole, values_of(rank, 6, at::kBFloat16));
  for (int other = 0; other < size; ++other) {
    expect(at::equal(whole[other], values_of(other, 6, at::kBFloat16)), "all_gather");
  }
  for (int root = 0; root < size; ++root) {
    at::Tensor tensor = values_of(rank, 9, at::kHalf);
    communicator.broadcast(tensor, root);
    expect(at::equal(tensor, values_of(root, 9, at::kHalf)), "broadcast");
  }
}

void check_asynchronous(Communicator& communicator) {
  std::vector<at::Tensor> tensors;
  std::vector<std::unique_ptr<comm::Work>> works;
  for (int64_t i = 0; i < 20; ++i) tensors.push_back(values_of(communicator.rank(), 1000 * i + 3, at::kFloat));
  for (at::Tensor& tensor : tensors) works.push_back(communicator.start_all_reduce(tensor, ReduceOp::kSum));
  communicator.barrier();
  // the ranks wait in different orders
  if (communicator.rank() % 2 == 1) std::reverse(works.begin(), works.end());
  for (auto& work : works) work->wait();
  for (const at::Tensor& tensor : tensors) {
    expect(at::equal(tensor, sum_in_rank_order(communicator.size(), tensor.numel(), at::kFloat)), "start_all_reduce");
  }
}

void check_small_collectives(Communicator& communicator) {
  const int size = communicator.size(), rank = communicator.rank();
  const std::string sent = rank == size - 1 ? std::string("from the last\0one", 17) : "other";
  expect(comm::broadcast_bytes(communicator, sent, size - 1) == std::string("from the last\0one", 17),
         "broadcast_bytes");
  expect(comm::broadcast_bytes(communicator, "") == "", "broadcast_bytes of nothing");
  const auto of_rank = [](int rank) { return std::string(static_cast<size_t>(3 * rank), '\0') + "x"; };
  const auto all = comm::all_gather_bytes(communicator, rank == 0 ? "" : of_rank(rank));  // of different lengths
  expect(static_cast<int>(all.size()) == size && all[0].empty(), "all_gather_bytes");
  for (int other = 1; other < size; ++other)
    expect(all[static_cast<size_t>(other)] == of_rank(other), "all_gather_bytes");
  for (const std::string& nothing : comm::all_gather_bytes(communicator, ""))
    expect(nothing.empty(), "all_gather_bytes of nothing");
  expect(comm::all_reduce_value(communicator, int64_t{rank + 1}) == size * (size + 1) / 2, "all_reduce_value");
  expect(comm::all_reduce_value(communicator, rank * 0.5, ReduceOp::kMax) == (size - 1) * 0.5, "all_reduce_value");
  expect(comm::any_rank(communicator, rank == size - 1) && !comm::any_rank(communicator, false), "any_rank");
}

void check_split(Communicator& communicator) {
  const int size = communicator.size(), rank = communicator.rank();
  for (int round = 0; round < 3; ++round) {
    auto part = communicator.split(rank % 2, -rank);  // the highest rank first
    const int expected_size = (size + 1 - rank % 2) / 2;
    expect(part->size() == expected_size, "the size after split");
    at::Tensor ranks = at::empty({part->size()}, at::kLong);
    part->all_gather(ranks, at::full({1}, rank, at::kLong));
    for (int i = 0; i + 1 < part->size(); ++i) {
      expect(ranks[i].item<int64_t>() == ranks[i + 1].item<int64_t>() + 2, "the order after split");
    }
    expect(ranks[part->rank()].item<int64_t>() == rank, "the rank after split");
  }
}

void check_collectives(Communicator& communicator) {
  check_all_reduce(communicator);
  check_scatter_and_gather(communicator);
  check_asynchronous(communicator);
  check_small_collectives(communicator);
  check_split(communicator);
  communicator.barrier();
}

}  // namespace

TEST_CASE("A single process's collectives are identities", "[comm]") {
  check_collectives(*comm::make_single_process_communicator());
}

TEST_CASE("Ranks as threads give every collective's result, bitwise equal to the sum in the order of ranks", "[comm]") {
  for (int size : {1, 2, 3, 4}) comm::run_thread_ranks(size, check_collectives);
}

TEST_CASE("MPI ranks give every collective's result, bitwise equal to the sum in the order of ranks, and compare calls",
          "[comm][mpi]") {
  if (comm::read_placement().size == 1) SKIP("not started by mpirun");
  auto communicator = comm::make_communicator();
  REQUIRE(communicator->size() == comm::read_placement().size);
  REQUIRE_NOTHROW(check_collectives(*communicator));
  // large enough for MPI's rendezvous protocol, with more in flight than its buffers hold
  std::vector<at::Tensor> tensors;
  std::vector<std::unique_ptr<comm::Work>> works;
  for (int i = 0; i < 4; ++i) tensors.push_back(values_of(communicator->rank(), 3'000'001, at::kFloat));
  for (at::Tensor& tensor : tensors) works.push_back(communicator->start_all_reduce(tensor, ReduceOp::kSum));
  for (auto& work : works) work->wait();
  const at::Tensor expected = sum_in_rank_order(communicator->size(), 3'000'001, at::kFloat);
  for (const at::Tensor& tensor : tensors) REQUIRE(at::equal(tensor, expected));
  test::require_error(ErrorKind::kInternal, {"internal check failed", "gaps"}, [&] {
    at::Tensor transposed = at::zeros({4, 5}).t();
    communicator->all_reduce(transposed);
  });
  communicator->barrier();

  // what would hang, where calls are compared (MPI starts once in a process, so this has no test case of its own)
  const int rank = communicator->rank();
  auto comparison = std::make_shared<comm::CallComparison>(communicator->split(0, rank));
  const auto compared = comm::compare_calls(std::move(communicator), std::move(comparison));
  at::Tensor tensor = at::ones({3});
  compared->all_reduce(tensor);
  REQUIRE(at::equal(tensor, at::full({3}, static_cast<double>(compared->size()), at::kFloat)));
  if (rank == 0)
    test::require_error(ErrorKind::kCommunication, {"rank 0: all-reduce (sum) #2 of Float [3]", "rank 1: barrier #2"},
                        [&] { compared->all_reduce(tensor); });
  else
    test::require_error(ErrorKind::kCommunication, {"which rank 0 lists", "barrier #2"}, [&] { compared->barrier(); });
}

TEST_CASE("A meeting place that is not known is a fault at once", "[comm]") {
  const auto begin = std::chrono::steady_clock::now();
  test::require_error(ErrorKind::kCommunication, {"no-such-host.invalid", "MASTER_ADDR", "is not known here"}, [] {
    comm::make_store_communicator({.rank = 1,
                                   .size = 2,
                                   .rendezvous = comm::Rendezvous::kStore,
                                   .master_host = "no-such-host.invalid",
                                   .master_port = 29500});
  });
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(30));  // c10d would try for 60 s
}

TEST_CASE("Ranks that find each other by a store give every collective's result, and hear of one that ends", "[comm]") {
  const auto run_ranks = [](int size, int port, const std::function<void(Communicator&)>& body) {
    std::vector<std::string> errors(static_cast<size_t>(size));
    std::vector<std::thread> threads;
    for (int rank = 0; rank < size; ++rank) {
      threads.emplace_back([&, rank] {
        try {
          auto communicator = comm::make_store_communicator({.rank = rank,
                                                             .size = size,
                                                             .rendezvous = comm::Rendezvous::kStore,
                                                             .master_host = "127.0.0.1",
                                                             .master_port = port});
          body(*communicator);
        } catch (const std::exception& error) {
          errors[static_cast<size_t>(rank)] = error.what();
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    return errors;
  };
  const int port = 21'000 + static_cast<int>(::getpid() % 20'000);
  for (const int size : {2, 3, 4})
    CHECK(run_ranks(size, port + size, check_collectives) == std::vector<std::string>(static_cast<size_t>(size)));

  const auto errors = run_ranks(3, port + 5, [](Communicator& communicator) {
    communicator.barrier();
    if (communicator.rank() == 1) throw std::runtime_error("rank one breaks");
    communicator.barrier();
  });
  CHECK(errors[1] == "rank one breaks");
  for (const int rank : {0, 2}) CHECK_THAT(errors[rank], Catch::Matchers::ContainsSubstring("rank 1 has closed"));

  const auto different = run_ranks(2, port + 6, [](Communicator& communicator) {
    at::Tensor tensor = at::zeros({communicator.rank() + 4});
    communicator.all_reduce(tensor);
  });
  CHECK_THAT(different[0] + different[1], Catch::Matchers::ContainsSubstring("ranks call different collectives"));
}

TEST_CASE("A rank that throws wakes the others, and its exception arrives", "[comm]") {
  std::mutex mutex;
  int num_woken = 0;
  const auto body = [&](Communicator& communicator) {
    if (communicator.rank() == 1) throw std::runtime_error("rank one breaks");
    try {
      communicator.barrier();
    } catch (const Error& error) {
      std::lock_guard lock(mutex);
      num_woken += error.kind() == ErrorKind::kCommunication;
      throw;
    }
  };
  REQUIRE_THROWS_WITH(comm::run_thread_ranks(3, body), "rank one breaks");
  REQUIRE(num_woken == 2);
}

TEST_CASE("An abort reaches ranks that wait in a communicator split off before", "[comm]") {
  const auto body = [](Communicator& communicator) {
    auto pair = communicator.split(communicator.rank() / 2, 0);
    if (communicator.rank() == 3) throw std::runtime_error("rank three breaks");
    pair->barrier();
    communicator.barrier();
  };
  REQUIRE_THROWS_WITH(comm::run_thread_ranks(4, body), "rank three breaks");
}

TEST_CASE("Threads that call different collectives are told so", "[comm]") {
  test::require_error(ErrorKind::kCommunication, {"different collectives", "barrier", "all_reduce", "Float x 2"}, [] {
    comm::run_thread_ranks(2, [](Communicator& communicator) {
      at::Tensor tensor = at::zeros({2});
      if (communicator.rank() == 0) communicator.barrier();
      if (communicator.rank() == 1) communicator.all_reduce(tensor);
    });
  });
}

TEST_CASE("Slices of the wrong size are a fault", "[comm]") {
  auto communicator = comm::make_single_process_communicator();
  at::Tensor output = at::zeros({3});
  test::require_error(ErrorKind::kInternal, {"3", "4"}, [&] { communicator->all_gather(output, at::zeros({4})); });
}

TEST_CASE("One process, and CPU ranks, need no communicator for the device", "[comm]") {
  const auto alone = comm::make_single_process_communicator();
  CHECK(comm::make_device_communicator(at::Device(at::kCUDA, 0), *alone) == nullptr);
  comm::run_thread_ranks(2, [](Communicator& communicator) {
    expect(comm::make_device_communicator(at::kCPU, communicator) == nullptr, "CPU ranks serve themselves");
  });
}

TEST_CASE("NCCL ranks give every collective's result on their GPUs", "[comm][nccl]") {
  const comm::Placement placement = comm::read_placement();
  if (placement.size == 1) SKIP("not started by mpirun");
  if (device::cuda::device_count() < placement.size) SKIP("fewer GPUs than ranks");
  const auto control = comm::make_communicator();
  const at::Device gpu = device::choose_device(device::DeviceChoice::kCuda, placement.local_rank);
  const auto communicator = comm::make_device_communicator(gpu, *control);
  REQUIRE(communicator->size() == placement.size);
  const int size = communicator->size(), rank = communicator->rank();
  for (at::ScalarType type : {at::kFloat, at::kDouble, at::kBFloat16, at::kHalf, at::kInt, at::kLong, at::kByte}) {
    at::Tensor tensor = values_of(rank, 4099, type).to(gpu);
    communicator->all_reduce(tensor);
    const at::Tensor expected = sum_in_rank_order(size, 4099, type);
    if (size == 2 || !tensor.is_floating_point()) REQUIRE(at::equal(tensor.cpu(), expected));  // one order of two
    REQUIRE(at::allclose(tensor.cpu().to(at::kDouble), expected.to(at::kDouble), 1e-2));
  }
  at::Tensor slice = at::empty({5}, gpu), whole = at::empty({size, 6}, at::TensorOptions(at::kBFloat16).device(gpu));
  communicator->reduce_scatter(slice, values_of(rank, 5 * size, at::kFloat).to(gpu));
  REQUIRE(at::allclose(slice.cpu(), sum_in_rank_order(size, 5 * size, at::kFloat).narrow(0, 5 * rank, 5)));
  communicator->all_gather(whole, values_of(rank, 6, at::kBFloat16).to(gpu));
  for (int other = 0; other < size; ++other) REQUIRE(at::equal(whole[other].cpu(), values_of(other, 6, at::kBFloat16)));
  at::Tensor sent = values_of(rank, 9, at::kHalf).to(gpu);
  communicator->broadcast(sent, size - 1);
  REQUIRE(at::equal(sent.cpu(), values_of(size - 1, 9, at::kHalf)));
  // what the stream computes before a collective is in it, and what comes after its wait() has its result
  at::Tensor summed = at::zeros({int64_t{1} << 22}, gpu);
  for (int round = 0; round < 20; ++round) {
    summed.add_(1);
    at::Tensor copy = summed.clone();
    const auto work = communicator->start_all_reduce(copy, ReduceOp::kSum);
    work->wait();
    summed.copy_(copy / size);
  }
  REQUIRE(at::equal(summed.cpu(), at::full({int64_t{1} << 22}, 20.0)));
  // slices that others read in place: written again and again, gathered whole each time, also where ranks are late
  for (const int64_t length : {5, 77}) {  // small ones, which might share a block of the driver
    at::Tensor small = communicator->make_slice(length, at::TensorOptions(at::kFloat).device(gpu));
    at::Tensor others = at::empty({size, length}, small.options());
    small.fill_(static_cast<double>(length * size + rank));
    communicator->all_gather(others, small);
    for (int other = 0; other < size; ++other) REQUIRE(others[other].eq(length * size + other).all().item<bool>());
  }
  at::Tensor own = communicator->make_slice(int64_t{3} << 20, at::TensorOptions(at::kBFloat16).device(gpu));
  at::Tensor all = at::empty({size, own.numel()}, own.options());
  for (int round = 0; round < 20; ++round) {
    at::Tensor late = at::ones({2048, 2048}, gpu);
    for (int i = 0; i < (round + rank) % 2 * 20; ++i) late = late.matmul(late) / 2048;
    own.fill_(round * size + rank + late[0][0]);
    communicator->all_gather(all, own);
    for (int other = 0; other < size; ++other) REQUIRE(all[other].eq(round * size + other + 1).all().item<bool>());
    communicator->barrier();
  }
  const auto part = communicator->split(rank % 2, -rank);
  REQUIRE(part->size() == (size + 1 - rank % 2) / 2);
  test::require_error(ErrorKind::kInternal, {"gaps"}, [&] {
    at::Tensor transposed = at::zeros({4, 5}, gpu).t();
    communicator->all_reduce(transposed);
  });
  communicator->barrier();
}
