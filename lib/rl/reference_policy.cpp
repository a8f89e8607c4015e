#include "rl/reference_policy.h"

#include <torch/types.h>

#include <algorithm>

#include "base/error.h"
#include "lora/adapters.h"
#include "zero/part_name.h"

namespace dsft::rl {
namespace {

constexpr int64_t kPiece = int64_t{1} << 24;  // elements of which there is a copy at a time

// Calls this with pieces of both.
template <typename Action>
void by_pieces(const at::Tensor& a, const at::Tensor& b, const Action& action) {
  for (int64_t first = 0; first < a.numel(); first += kPiece) {
    const int64_t size = std::min(kPiece, a.numel() - first);
    action(a.narrow(0, first, size), b.narrow(0, first, size));
  }
}

void exchange(at::Tensor a, at::Tensor b) {
  const at::Tensor kept = a.clone();
  a.copy_(b);
  b.copy_(kept);
}

}  // namespace

ReferencePolicy::ReferencePolicy(ReferenceKind kind, std::shared_ptr<model::CausalLm> model,
                                 zero::ParameterShards* shards, comm::Communicator& communicator)
    : model_(std::move(model)), shards_(shards), communicator_(communicator) {
  if (kind == ReferenceKind::kAdapterOff) return;
  for (const lora::TrainableTensor& item : lora::trainable_tensors(*model_))
    trained_.emplace_back(item.name, item.tensor);
  DSFT_CHECK(!trained_.empty(), "a copy of nothing");
  copies_ = policy_slices();
  for (checkpoint::TensorSlice& copy : copies_) copy.values = copy.values.clone();
}

// What an update still writes has arrived.
std::vector<checkpoint::TensorSlice> ReferencePolicy::policy_slices() const {
  return checkpoint::own_slices(trained_, shards_);
}

void ReferencePolicy::while_in_force(const std::function<void()>& work) {
  if (trained_.empty()) {
    const lora::AdaptersDisabled is_reference(*model_);
    work();
    return;
  }
  change_places();
  work();
  change_places();
}

void ReferencePolicy::change_places() {
  if (shards_) {
    shards_->end_passes();
    communicator_.barrier();  // no rank gathers slices that are about to be written
  }
  const torch::NoGradGuard no_grad;
  const std::vector<checkpoint::TensorSlice> policy = policy_slices();
  for (size_t i = 0; i < policy.size(); ++i) by_pieces(policy[i].values, copies_[i].values, exchange);
}

void ReferencePolicy::follow(double alpha) {
  DSFT_CHECK(!trained_.empty(), "only a copy follows the policy");
  const torch::NoGradGuard no_grad;
  const std::vector<checkpoint::TensorSlice> policy = policy_slices();
  // not mul_(), which would round the factor to the tensors' type (PyTorch 2.11, on the CPU)
  for (size_t i = 0; i < policy.size(); ++i)
    by_pieces(copies_[i].values, policy[i].values, [&](at::Tensor copy, const at::Tensor& of_policy) {
      copy.copy_(copy.mul(1 - alpha).add_(of_policy, alpha));
    });
}

std::vector<zero::NamedState> ReferencePolicy::state() const {
  std::vector<zero::NamedState> state;
  for (size_t i = 0; i < copies_.size(); ++i) {
    const checkpoint::TensorSlice& copy = copies_[i];
    const bool is_part = shards_ && shards_->buffer_of(trained_[i].second);
    if (is_part ? copy.values.numel() == 0 : communicator_.rank() != 0) continue;
    const at::Tensor values = copy.values.to(at::kCPU).contiguous();
    if (is_part)
      state.push_back({zero::to_text({copy.name, copy.first}), values});
    else
      state.push_back({copy.name, values.view(copy.shape)});
  }
  return state;
}

void ReferencePolicy::restore(const std::string& name, zero::SavedState state) {
  for (const checkpoint::TensorSlice& copy : copies_) state.expect(copy.name, copy.shape, copy.values.scalar_type());
  if (const std::string faults = state.faults(); !faults.empty())
    fail(ErrorKind::kCheckpoint, "the saved reference policy (", name,
         ") does not fit what this recipe trains:", faults);
  for (const checkpoint::TensorSlice& copy : copies_) state.copy(copy.name, copy.first, copy.values);
}

}  // namespace dsft::rl
