#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace dsft::report {

/// Completions as they stand in completions.jsonl ({step, prompt, completion, rewards: {name: value}, reward,
/// advantage}, `evaluation` of those of one, and any further fields of one value), as a <section> of a run's page: a
/// table for each group of one prompt, each text cut where it is very long, and the oldest left out where all would be
/// more than 256,000 bytes. Nothing of a text is read as markup. Empty without records.
std::string draw_completions(const std::vector<nlohmann::ordered_json>& records);

}  // namespace dsft::report
