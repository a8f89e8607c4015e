#include "checkpoint/load_weights.h"

#include <ATen/Parallel.h>
#include <omp.h>
#include <torch/types.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <set>
#include <thread>

#include "base/error.h"
#include "spec/weight_check.h"

namespace dsft::checkpoint {

namespace {

void check_names(const spec::ModelSpec& spec, const io::SafetensorsSet& weights, const NamedTensors& parameters) {
  std::vector<std::string> faults;
  std::set<std::string> wanted;
  for (const auto& [name, parameter] : parameters) {
    wanted.insert(name);
    const io::TensorInfo* info = weights.find(name);
    if (info == nullptr) {
      faults.push_back("missing: " + name);
    } else if (info->shape != parameter.sizes().vec()) {
      faults.push_back(concat("wrong shape: ", name, " is ", at::IntArrayRef(info->shape), ", but the model has ",
                              parameter.sizes()));
    }
  }
  for (const std::string& name : weights.names()) {
    if (!wanted.contains(name) && !spec::is_ignored_tensor(spec, name)) faults.push_back("unexpected: " + name);
  }
  if (faults.empty()) return;
  std::string text = concat("The weights in ", weights.files().front().path().parent_path().string(),
                            " do not fit the model, ", faults.size(), " faults:");
  for (const std::string& fault : faults) text += "\n  - " + fault;
  fail(ErrorKind::kCheckpoint, text);
}

/// Runs a task for each index on several threads; the first error is thrown once all have ended.
template <typename Task>
void run_in_parallel(size_t count, int num_threads, const Task& task) {
  std::atomic<size_t> next{0};
  std::mutex mutex;
  std::exception_ptr error;
  const auto work = [&] {
    // Conversions must not start a team of threads inside each of these threads; the first call makes ATen's own
    // setting, which the second replaces.
    at::get_num_threads();
    omp_set_num_threads(1);
    for (size_t i = next++; i < count; i = next++) {
      try {
        task(i);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        next = count;
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < num_threads; ++i) threads.emplace_back(work);
  for (std::thread& thread : threads) thread.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace

void require_tied_head(const spec::ModelSpec& spec, const io::SafetensorsSet& weights) {
  const io::TensorInfo* head = weights.find("lm_head.weight");
  const io::TensorInfo* embedding = weights.find("model.embed_tokens.weight");
  if (!spec.tie_word_embeddings || head == nullptr || embedding == nullptr) return;
  if (head->shape == embedding->shape &&
      at::equal(read_tensor(weights, *head), read_tensor(weights, *embedding).to(to_scalar_type(head->dtype))))
    return;
  fail(ErrorKind::kCheckpoint, weights.file_of(*head).path().string(),
       ": config.json says tie_word_embeddings: true, but lm_head.weight differs from ",
       "model.embed_tokens.weight. Set tie_word_embeddings to false in config.json to use both.");
}

void load_weights(const spec::ModelSpec& spec, const io::SafetensorsSet& weights, const NamedTensors& parameters,
                  int num_threads) {
  check_names(spec, weights, parameters);
  require_tied_head(spec, weights);
  // The largest first, so that no thread is left alone with one at the end.
  std::vector<size_t> order(parameters.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return parameters[a].second.numel() > parameters[b].second.numel(); });
  run_in_parallel(order.size(), std::clamp<int>(num_threads, 1, 64), [&](size_t i) {
    const auto& [name, parameter] = parameters[order[i]];
    const io::TensorInfo& info = *weights.find(name);
    read_into(weights.file_of(info), info, parameter);
  });
}

}  // namespace dsft::checkpoint
