#include "rl/loss_explanation.h"

#include "catch_amalgamated.hpp"

using namespace dsft;
using Catch::Matchers::ContainsSubstring;

TEST_CASE("A run says where its loss begins, by its form, its terms and its policy", "[rl]") {
  rl::GrpoConfig config;
  const auto said = [&](bool is_on_policy = true) { return rl::explain_loss(config, is_on_policy); };
  CHECK_THAT(said(), ContainsSubstring("every ratio is 1 and the advantages") &&
                         ContainsSubstring("begins near 0 and stays there but for the different lengths of answers"));
  CHECK_THAT(said(false), ContainsSubstring("every ratio is 1 until the first update of a round and the advantages") &&
                              ContainsSubstring("begins near 0 but for the different lengths"));
  CHECK_THAT(said(), !ContainsSubstring("entropy") && !ContainsSubstring("KL"));
  config.loss_type = rl::LossType::kGrpo;
  CHECK_THAT(said(), ContainsSubstring("begins near 0") && !ContainsSubstring("lengths"));
  config.loss_type = rl::LossType::kSapo;
  CHECK_THAT(said(), ContainsSubstring("begins near 0") && ContainsSubstring("temperatures"));
  for (const rl::LossType type : {rl::LossType::kCispo, rl::LossType::kVespo}) {
    config.loss_type = type;
    for (const bool is_on_policy : {true, false})
      CHECK_THAT(said(is_on_policy), ContainsSubstring("log-probabilities") && !ContainsSubstring("near 0"));
  }
  config.entropy_coef = 0.01;
  CHECK_THAT(said(), ContainsSubstring("entropy_coef x the mean entropy off it (policy_loss is without it)"));
  config.use_adaptive_entropy = true;
  CHECK_THAT(said(), ContainsSubstring("off it, from the second update on (policy_loss"));
  config.beta = 0.1;
  CHECK_THAT(said(), ContainsSubstring("adds beta x kl, which is 0 at the start"));
}
