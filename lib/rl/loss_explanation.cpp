#include "rl/loss_explanation.h"

#include "base/error.h"

namespace dsft::rl {
namespace {

// Why it is not 0 where advantages add up to 0.
std::string explain_rest(LossType type) {
  switch (type) {
    case LossType::kGrpo:
      return "";
    case LossType::kSapo:
      return " but for its two temperatures";
    case LossType::kBnpo:
    case LossType::kDapo:
    case LossType::kDrGrpo:
    case LossType::kLuspo:
    case LossType::kCispo:
    case LossType::kVespo:
      break;
  }
  return " but for the different lengths of answers";
}

std::string explain_beginning(LossType type, bool is_on_policy) {
  if (type == LossType::kCispo || type == LossType::kVespo)
    return "it is the log-probabilities of answers weighed by their advantages, and begins wherever these lie";
  return concat("every ratio is 1", is_on_policy ? "" : " until the first update of a round",
                " and the advantages of a group add up to 0, so it begins near 0",
                is_on_policy ? " and stays there" : "", explain_rest(type));
}

}  // namespace

std::string explain_loss(const GrpoConfig& config, bool is_on_policy) {
  std::string text = "the loss says little here: " + explain_beginning(config.loss_type, is_on_policy);
  if (config.has_entropy_bonus())
    text += concat("; the entropy term takes entropy_coef x the mean entropy off it",
                   config.use_adaptive_entropy ? ", from the second update on" : "", " (policy_loss is without it)");
  if (config.beta != 0)
    text += "; the KL term adds beta x kl, which is 0 at the start and grows as the policy leaves the reference";
  return text + "; its gradient is what trains. Watch the rewards.";
}

}  // namespace dsft::rl
