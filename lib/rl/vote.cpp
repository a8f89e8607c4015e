#include "rl/vote.h"

#include "base/error.h"
#include "rewards/math_answer.h"

namespace dsft::rl {
namespace {

constexpr double kRounding = 1e-12;  // sums of weights that differ by less are equal: 0.1 + 0.2 and 0.3

bool agree(const std::optional<std::string>& a, const std::optional<std::string>& b, double tolerance) {
  return a && b && rewards::are_same_math_answer(*a, *b, tolerance);
}

}  // namespace

std::vector<double> agreements(const Ballot& ballot, const std::vector<double>& weights, double tolerance) {
  DSFT_CHECK(ballot.size() == weights.size(), ballot.size(), " answers of ", weights.size(), " agents");
  std::vector<double> shares;
  for (size_t a = 0; a < ballot.size(); ++a) {
    double all = 0, same = 0;
    for (size_t b = 0; b < ballot.size(); ++b) {
      if (b == a) continue;
      all += weights[b];
      if (agree(ballot[a], ballot[b], tolerance)) same += weights[b];
    }
    shares.push_back(all > 0 ? same / all : 0);
  }
  return shares;
}

std::optional<size_t> elect(const Ballot& ballot, const std::vector<double>& weights, double tolerance) {
  DSFT_CHECK(ballot.size() == weights.size(), ballot.size(), " answers of ", weights.size(), " agents");
  std::optional<size_t> elected;
  double most = 0;
  for (size_t a = 0; a < ballot.size(); ++a) {
    if (!ballot[a]) continue;
    double votes = weights[a];
    for (size_t b = 0; b < ballot.size(); ++b)
      if (b != a && agree(ballot[a], ballot[b], tolerance)) votes += weights[b];
    if (elected && votes <= most * (1 + kRounding)) continue;
    elected = a;
    most = votes;
  }
  return elected;
}

}  // namespace dsft::rl
