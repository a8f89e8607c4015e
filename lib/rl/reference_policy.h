#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "checkpoint/model_slices.h"
#include "comm/communicator.h"
#include "model/causal_lm.h"
#include "train/update_callback.h"
#include "zero/parameter_shards.h"

namespace dsft::rl {

/// What a reference policy is kept as.
enum class ReferenceKind {
  kAdapterOff,  ///< nothing: of a new adapter alone it is the model without it
  kCopy,        ///< a frozen copy of all that is trained, in its type, of this rank's slices where ranks share it
};

/// The policy that the KL term measures the trained one against: that with which training begins, or one that follows
/// it (follow()). A copy lies beside the trained tensors and changes places with them while the reference scores, value
/// by value, so that addresses, and with them gathering, offloading and what is recorded, stay as they are.
class ReferencePolicy final {
 public:
  /// Copies the policy as it is now. `shards`: the run's, null where every rank has all parameters. `communicator`:
  /// over tensors on the model's device. All outlive it.
  ReferencePolicy(ReferenceKind kind, std::shared_ptr<model::CausalLm> model, zero::ParameterShards* shards,
                  comm::Communicator& communicator);

  /// Does `work` with the reference in the policy's place. Where it throws the model is of no more use. Collective.
  void while_in_force(const std::function<void()>& work);

  /// Becomes alpha times the policy plus (1 - alpha) times itself, each tensor in its own type, as TRL's
  /// SyncRefModelCallback. Of a copy.
  void follow(double alpha);

  /// A copy's tensors by their names, as UpdateCallback::state() gives them.
  std::vector<zero::NamedState> state() const;
  /// Takes them back, of any number of ranks. Throws kCheckpoint.
  void restore(const std::string& name, zero::SavedState state);

 private:
  std::vector<checkpoint::TensorSlice> policy_slices() const;
  void change_places();

  std::shared_ptr<model::CausalLm> model_;
  zero::ParameterShards* shards_;
  comm::Communicator& communicator_;
  checkpoint::NamedTensors trained_;             // none where there is no copy
  std::vector<checkpoint::TensorSlice> copies_;  // of each of trained_
};

/// Has a reference follow the policy every `every` updates (grpo.sync_ref_model).
class ReferenceSync final : public train::UpdateCallback {
 public:
  ReferenceSync(std::shared_ptr<ReferencePolicy> reference, double alpha, int64_t every)
      : reference_(std::move(reference)), alpha_(alpha), every_(every) {}

  std::string name() const override { return "grpo.sync_ref_model"; }
  void after_update(train::StepReport& report) override {
    if (report.step % every_ == 0) reference_->follow(alpha_);
  }
  std::vector<zero::NamedState> state() const override { return reference_->state(); }
  void restore(zero::SavedState state) override { reference_->restore(name(), std::move(state)); }

 private:
  std::shared_ptr<ReferencePolicy> reference_;
  double alpha_;
  int64_t every_;
};

}  // namespace dsft::rl
