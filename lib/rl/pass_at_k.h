#pragma once

#include <cstdint>
#include <map>
#include <vector>

namespace dsft::rl {

/// The probability that at least one of k answers passes, estimated without bias from n answers of which c did (Chen et
/// al., "Evaluating Large Language Models Trained on Code", 2021): 1 - C(n - c, k) / C(n, k). 1 <= k <= n.
double pass_at_k(int64_t n, int64_t c, int64_t k);

/// What one prompt's answers came to.
struct PassCount {
  int64_t num_answers = 0;  ///< n: those that could be judged
  int64_t num_passed = 0;   ///< c
};

/// The mean of pass_at_k over the prompts with at least k judged answers, for each of these k; NaN of one that no
/// prompt reaches.
std::map<int64_t, double> mean_pass_at_k(const std::vector<PassCount>& prompts, const std::vector<int64_t>& all_k);

}  // namespace dsft::rl
