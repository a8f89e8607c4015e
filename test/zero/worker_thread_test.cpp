#include "zero/worker_thread.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <thread>

#include "catch_amalgamated.hpp"

using dsft::zero::WorkerThread;

TEST_CASE("A worker does its tasks in order, in another thread, and is waited for by number", "[zero]") {
  WorkerThread worker;
  worker.wait(0);
  std::string order;
  std::thread::id id;
  std::atomic<bool> may_go_on = false;
  const int64_t first = worker.add([&] { order += 'a', id = std::this_thread::get_id(); });
  const int64_t second = worker.add([&] {
    while (!may_go_on) std::this_thread::yield();
    order += 'b';
  });
  const int64_t third = worker.add([&] { order += 'c'; });
  worker.wait(first);  // not for the second, which does not end by itself
  CHECK(id != std::this_thread::get_id());
  may_go_on = true;
  worker.wait(third);
  CHECK(order == "abc");
  worker.wait(second);
}

TEST_CASE("Behind a task that throws none is done, and every wait throws the same", "[zero]") {
  WorkerThread worker;
  bool is_done = false;
  worker.wait(worker.add([] {}));
  const int64_t failing = worker.add([] { throw std::runtime_error("the memory burns"); });
  const int64_t behind = worker.add([&] { is_done = true; });
  for (const int64_t number : {failing, behind})
    CHECK_THROWS_WITH(worker.wait(number), Catch::Matchers::ContainsSubstring("the memory burns"));
  CHECK_FALSE(is_done);
}

TEST_CASE("A worker that ends finishes its task and leaves out the rest, and gives back what tasks hold", "[zero]") {
  const auto held = std::make_shared<int>(1);
  std::atomic<bool> has_begun = false, has_ended = false, is_done = false;
  {
    WorkerThread worker;
    worker.add([&, held] {
      has_begun = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      has_ended = true;
    });
    worker.add([&, held] { is_done = true; });
    while (!has_begun) std::this_thread::yield();
  }
  CHECK(has_ended);
  CHECK_FALSE(is_done);
  CHECK(held.use_count() == 1);
}
