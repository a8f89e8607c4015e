#pragma once

#include <map>
#include <string>
#include <vector>

#include "report/curve.h"
#include "report/run_page.h"

namespace dsft::rl {

/// The charts of a GRPO run's page, from the curves of its metrics by TRL's names (docs/grpo.md): rewards, evaluations,
/// the policy's update, completions, speed; metrics that none of these names are charts of their own behind them.
/// Deviations are in the curves of their means.
std::vector<report::ChartSection> policy_charts(const std::map<std::string, report::Curve>& curves);

}  // namespace dsft::rl
