#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "train/observer.h"

namespace dsft::train {

/// Means of metrics by name, each over those of its values that are numbers: TRL's way between two logs.
class MetricMeans final {
 public:
  void add(const std::map<std::string, double>& metrics);
  /// NaN where no value was a number.
  std::map<std::string, double> values() const;

 private:
  struct Sum {
    double value = 0;
    int64_t count = 0;
  };
  std::map<std::string, Sum> sums_;
};

/// What is logged of the updates since the last log: means of loss and metrics, sums of tokens and seconds, of all else
/// the last one's. As the Trainer's log, where a loss that is no number is left out.
class LogWindow final {
 public:
  void add(const StepReport& report);
  /// Begins anew. At least one report was added.
  StepReport take();

 private:
  StepReport last_;
  MetricMeans losses_, metrics_;
  int64_t num_updates_ = 0, num_tokens_ = 0;
  double seconds_ = 0;
  bool is_applied_ = true;
};

}  // namespace dsft::train
