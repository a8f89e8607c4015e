#pragma once

#include <string>
#include <vector>

#include "generate/engine.h"
#include "support/tiny_model.h"

namespace dsft::test {

using Ids = std::vector<int32_t>;

inline std::vector<generate::Request> requests_of(const std::vector<Ids>& prompts, int64_t max_new_tokens) {
  std::vector<generate::Request> requests;
  for (const Ids& prompt : prompts) requests.push_back({prompt, max_new_tokens, requests.size()});
  return requests;
}

inline std::vector<Ids> answers_of(model::CausalLm& lm, const std::vector<Ids>& prompts,
                                   const generate::EngineOptions& options, int64_t max_new_tokens = 20) {
  std::vector<Ids> answers;
  for (const auto& completion :
       generate::generate(lm, nn::BlockRunner(), requests_of(prompts, max_new_tokens), options))
    answers.push_back(completion.token_ids);
  return answers;
}

inline std::vector<Ids> random_prompts(const std::vector<int64_t>& lengths) {
  std::vector<Ids> prompts;
  for (const Document& document : random_documents(lengths, 97, 5)) prompts.push_back(document.ids);
  return prompts;
}

/// Random ones beside every Linear.
inline std::vector<nn::LoraAdapter*> add_adapters(model::CausalLm& lm) {
  std::vector<nn::LoraAdapter*> adapters;
  torch::manual_seed(12);
  for (const auto& module : lm.modules()) {
    auto* linear = module->as<nn::Linear>();
    if (!linear) continue;
    linear->adapter() = nn::LoraAdapter{.a = torch::randn({4, linear->in_features()}) * 0.1,
                                        .b = torch::randn({linear->out_features(), 4}) * 0.1,
                                        .scale = 0.5};
    adapters.push_back(&*linear->adapter());
  }
  return adapters;
}

}  // namespace dsft::test
