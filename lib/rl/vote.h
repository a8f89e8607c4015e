#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace dsft::rl {

/// What the agents of an ensemble answer to one prompt, in their order, by rewards::find_math_answer; nothing: an agent
/// gave no answer.
using Ballot = std::vector<std::optional<std::string>>;

/// For each agent the share of the other agents' weight that gives the same answer; 0 for one without an answer, which
/// agrees with nobody. `tolerance`: numbers so near are the same answer.
std::vector<double> agreements(const Ballot& ballot, const std::vector<double>& weights, double tolerance);

/// An agent that gives the answer of the largest sum of weights, the first of those that do; of several such answers
/// the one whose first agent comes first. Nothing where no agent has an answer.
std::optional<size_t> elect(const Ballot& ballot, const std::vector<double>& weights, double tolerance);

}  // namespace dsft::rl
