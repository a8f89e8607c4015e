#include "checkpoint/init_model.h"
#include "dsft-trainer/tasks.h"
#include "spec/model_spec.h"
#include "text/tokenizer.h"

namespace dsft::apps {

int run_init_model(const InitModelOptions& options, const Logger& logger) {
  const std::filesystem::path folder = spec::find_model(options.tokenizer, "");
  const text::Tokenizer tokenizer = text::Tokenizer::load(folder);
  checkpoint::init_model({.config = options.config,
                          .tokenizer = folder,
                          .output = options.output,
                          .seed = static_cast<uint64_t>(options.seed),
                          .num_token_ids = tokenizer.num_ids(),
                          .bos_token_id = tokenizer.bos_id(),
                          .eos_token_id = tokenizer.eos_id(),
                          .pad_token_id = tokenizer.pad_id()},
                         logger);
  return 0;
}

}  // namespace dsft::apps
