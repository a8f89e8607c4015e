#pragma once

#include <string>
#include <vector>

#include "train/observer.h"
#include "zero/saved_state.h"

namespace dsft::train {

/// What a recipe does after each update, on every rank, and what later updates depend on (an Observer watches, on rank
/// 0). Where a job has one, an update's numbers are read as soon as it is enqueued, so that the next one finds what
/// follows from them on every device alike.
class UpdateCallback {
 public:
  virtual ~UpdateCallback() = default;

  /// The recipe's key that asks for it: its state is saved under this name, which has no "/".
  virtual std::string name() const = 0;

  /// After an update, skipped ones included, of which `report` has numbers that are equal on all ranks (but for
  /// times); what is added to its metrics is reported. Collective.
  virtual void after_update(StepReport& report) = 0;

  /// All that a run needs to go on bit for bit: CPU tensors, of what ranks share this rank's parts (zero::PartName;
  /// only where they share the optimizer's state too), of the rest what rank 0 gives is saved. They may share memory
  /// until the next update.
  virtual std::vector<zero::NamedState> state() const = 0;

  /// Takes it back, the parts of all ranks together. Throws kCheckpoint where it does not fit, with nothing changed.
  virtual void restore(zero::SavedState state) = 0;
};

}  // namespace dsft::train
