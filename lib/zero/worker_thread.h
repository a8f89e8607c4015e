#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <thread>

namespace dsft::zero {

/// A thread that does one task after another. After one that throws no more are done, and every wait throws the same:
/// what the tasks work on is in no known state.
class WorkerThread {
 public:
  WorkerThread();
  /// Ends the task that it is at, and leaves out those behind it.
  ~WorkerThread();
  WorkerThread(const WorkerThread&) = delete;
  WorkerThread& operator=(const WorkerThread&) = delete;

  /// Gives the number of this task, from 1.
  int64_t add(std::function<void()> task);

  /// Waits until the tasks up to this number are done; 0: for none.
  void wait(int64_t number);

 private:
  void work();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  int64_t num_added_ = 0, num_done_ = 0;
  bool is_ending_ = false;
  std::exception_ptr error_;
  std::thread thread_;  // last: it works on the others
};

}  // namespace dsft::zero
