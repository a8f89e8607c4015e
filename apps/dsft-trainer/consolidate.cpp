#include "checkpoint/consolidate.h"

#include "dsft-trainer/tasks.h"

namespace dsft::apps {

int run_consolidate(const ConsolidateOptions& options, const Logger& logger) {
  checkpoint::consolidate({.checkpoint = options.checkpoint, .output = options.output}, logger);
  return 0;
}

}  // namespace dsft::apps
