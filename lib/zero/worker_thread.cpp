#include "zero/worker_thread.h"

#include <utility>

namespace dsft::zero {

WorkerThread::WorkerThread() : thread_([this] { work(); }) {}

WorkerThread::~WorkerThread() {
  {
    const std::lock_guard lock(mutex_);
    is_ending_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

int64_t WorkerThread::add(std::function<void()> task) {
  const std::lock_guard lock(mutex_);
  tasks_.push_back(std::move(task));
  changed_.notify_all();
  return ++num_added_;
}

void WorkerThread::wait(int64_t number) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return error_ || num_done_ >= number; });
  if (error_) std::rethrow_exception(error_);
}

void WorkerThread::work() {
  std::unique_lock lock(mutex_);
  while (true) {
    changed_.wait(lock, [&] { return is_ending_ || (!error_ && !tasks_.empty()); });
    if (is_ending_) return;
    std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    std::exception_ptr error;
    try {
      task();
    } catch (...) {
      error = std::current_exception();
    }
    task = nullptr;  // what it holds is given back before others hear that it is done
    lock.lock();
    error_ = error;
    if (!error) ++num_done_;
    changed_.notify_all();
  }
}

}  // namespace dsft::zero
