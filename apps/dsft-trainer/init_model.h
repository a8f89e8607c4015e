#pragma once

#include "base/logger.h"
#include "options/init_model_options.h"

namespace dsft::apps {

/// `dsft init-model`. Returns the exit code.
int run_init_model(const InitModelOptions& options, const Logger& logger);

}  // namespace dsft::apps
