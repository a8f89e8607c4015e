#include "rl/pass_at_k.h"

#include "base/error.h"

namespace dsft::rl {

double pass_at_k(int64_t n, int64_t c, int64_t k) {
  DSFT_CHECK(k >= 1 && k <= n && c >= 0 && c <= n, "pass@", k, " of ", c, " in ", n);
  if (n - c < k) return 1;
  // the quotient of the binomials, term by term: no factorial grows
  double none_passes = 1;
  for (int64_t i = n - c + 1; i <= n; ++i) none_passes *= 1 - static_cast<double>(k) / static_cast<double>(i);
  return 1 - none_passes;
}

std::map<int64_t, double> mean_pass_at_k(const std::vector<PassCount>& prompts, const std::vector<int64_t>& all_k) {
  std::map<int64_t, double> means;
  for (const int64_t k : all_k) {
    double sum = 0;
    int64_t count = 0;
    for (const PassCount& prompt : prompts) {
      if (prompt.num_answers < k) continue;
      sum += pass_at_k(prompt.num_answers, prompt.num_passed, k);
      ++count;
    }
    means[k] = sum / static_cast<double>(count);
  }
  return means;
}

}  // namespace dsft::rl
