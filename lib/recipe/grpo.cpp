#include "recipe/grpo.h"

#include "base/error.h"
#include "checkpoint/agreed_step.h"
#include "io/checksum.h"
#include "kernels/decode_attention.h"
#include "lora/adapters.h"
#include "recipe/build_parts.h"
#include "recipe/build_policy_evaluation.h"
#include "recipe/build_trained_model.h"
#include "rewards/scorer.h"
#include "rl/adaptive_entropy.h"
#include "rl/grpo_loss.h"
#include "rl/loss_explanation.h"
#include "rl/policy_report.h"
#include "rl/rollout_source.h"

namespace dsft::recipe {
namespace {

using recipe_config::RecipeConfig;

data::EpochPlanOptions order_of(const RecipeConfig& config, const rl::PromptRows& prompts, uint64_t seed) {
  data::EpochPlanOptions order{
      .seed = seed, .shuffle = config.data.shuffle, .packing = false, .file_begins = prompts.file_begins};
  for (const data::DataFile& file : config.data.train) order.file_weights.push_back(file.weight);
  return order;
}

std::map<std::string, std::string> fingerprint(const RecipeConfig& config, const rl::PromptRows& prompts,
                                               const rl::GenerationBatch& batch) {
  std::string text;
  for (const rl::PromptRow& row : prompts.rows) {
    text.append(reinterpret_cast<const char*>(row.ids.data()), row.ids.size() * sizeof(int32_t));
    text += row.columns.dump();
  }
  return {
      {"the prompts of data.train", io::to_hex(io::xxh3(text))},
      {"the size of a round of sampling", concat(batch.num_prompts(), " x ", batch.num_agents * batch.num_generations,
                                                 ", ", batch.num_iterations, " times")},
      {"data.shuffle", config.data.shuffle ? "true" : "false"}};
}

void warn_of_long_prompts(const rl::PromptRows& prompts, const rl::GrpoConfig& grpo, const model::CausalLm& model,
                          const Logger& logger) {
  const int64_t positions = model.spec().max_position_embeddings;
  int64_t num_long = 0;
  for (const rl::PromptRow& row : prompts.rows)
    num_long += static_cast<int64_t>(row.ids.size()) + grpo.max_completion_length > positions;
  if (num_long > 0)
    logger.warn(num_long, " of ", prompts.rows.size(), " prompts with a completion of grpo.max_completion_length ",
                grpo.max_completion_length, " tokens are longer than the model's ", positions, " positions");
}

// Under full_determinism answers and the passes over them agree to the bit.
void require_isolated_rows(const model::CausalLm& model) {
  const spec::ModelSpec& spec = model.spec();
  const at::TensorOptions options = at::TensorOptions(model.dtype()).device(model.device());
  if (!kernels::isolates_sequences(options, {spec.num_attention_heads, spec.num_key_value_heads, spec.head_dim}))
    fail(ErrorKind::kUsage,
         "training.full_determinism with recipe grpo: on a GPU it is built for heads of 64 and 128 in "
         "groups of up to 8, and this model has heads of ",
         spec.head_dim, " in groups of ", spec.num_attention_heads / spec.num_key_value_heads,
         "; leave it out, or train with device: cpu");
}

// Null without a KL term. Follows the policy where the recipe says so.
std::shared_ptr<rl::ReferencePolicy> build_reference(const RecipeConfig& config, train::Job& job,
                                                     train::RunContext& context) {
  const rl::GrpoConfig& grpo = *config.grpo;
  if (grpo.beta == 0) return nullptr;
  const auto kind = config.keeps_reference() ? rl::ReferenceKind::kCopy : rl::ReferenceKind::kAdapterOff;
  auto reference = std::make_shared<rl::ReferencePolicy>(kind, job.model, job.shards.get(), context.of_device());
  if (grpo.sync_ref_model)
    job.callbacks.push_back(
        std::make_unique<rl::ReferenceSync>(reference, grpo.ref_model_mixup_alpha, grpo.ref_model_sync_steps));
  return reference;
}

// The learned weights of an ensemble's pool stand beside the policy's, in checkpoints too.
void save_with_pool(train::Job& job, const std::shared_ptr<rl::PoolWeights>& pool, comm::Communicator& communicator) {
  job.save_weights = [save = std::move(job.save_weights), pool, &communicator](const std::filesystem::path& directory) {
    save(directory);
    checkpoint::run_agreed(communicator, [&] {
      if (communicator.rank() == 0) pool->save(directory);
    });
  };
  job.load_weights = [load = std::move(job.load_weights), pool](const std::filesystem::path& directory) {
    load(directory);
    pool->load(directory);
  };
}

train::ShownMetrics shown_metrics(const rl::GrpoConfig& grpo) {
  train::ShownMetrics shown = {.of_update = "reward", .of_evaluation = {"eval_reward"}};
  for (const int64_t k : grpo.reported_k()) shown.of_evaluation.push_back(concat("eval_pass@", k));
  for (const char* name : {"ensemble/accuracy", "completions/mean_length", "completions/clipped_ratio"})
    shown.of_evaluation.push_back(concat("eval_", name));
  return shown;
}

// Tells those that the job has by now. Observers watch: what fails in one must not end the run.
rl::OnSampled tell_observers(const train::Job& job, const char* what, const Logger& logger) {
  std::vector<train::Observer*> observers;
  for (const auto& observer : job.observers) observers.push_back(observer.get());
  return [observers, what, &logger](int64_t done, int64_t total) mutable {
    try {
      for (train::Observer* observer : observers) observer->on_activity(what, done, total);
    } catch (const std::exception& error) {
      observers.clear();
      logger.warn("what is being done is not shown any more; the run goes on. ", error.what());
    }
  };
}

}  // namespace

train::Job build_grpo_job(const RecipeConfig& config, train::RunContext& context) {
  const rl::GrpoConfig& grpo = *config.grpo;
  const spec::TextFolders folders =
      spec::find_text_folders(spec::find_model(config.model.path, config.model.revision), config.adapter());
  context.enter("reading prompts");
  const auto assets =
      std::make_shared<const data::TextAssets>(data::TextAssets::load(folders, config.data.chat_template.value_or("")));
  const auto prompts = std::make_shared<const rl::PromptRows>(
      rl::read_prompt_rows(config.data, *assets, context.seed, grpo.ensemble.agents));
  require_columns(*prompts, grpo.judged_by.rewards);
  rl::RolloutPlan plan(
      rl::plan_generation(grpo, {config.training.per_device_train_batch_size,
                                 config.training.gradient_accumulation_steps, context.communicator.size()}),
      order_of(config, *prompts, context.seed), prompts->num_rows());
  context.enter("starting the rewards");
  auto scorer = std::make_shared<rewards::Scorer>(
      grpo.judged_by.rewards, rewards::ScorerOptions{.log_folder = context.output_dir / "rewards"}, context.logger);
  scorer->wait_until_ready();

  const auto completions = std::make_shared<rl::CompletionsLog>(context.output_dir / "completions.jsonl",
                                                                context.communicator, context.logger);
  const auto pool = grpo.ensemble.has_pool() ? std::make_shared<rl::PoolWeights>(grpo.ensemble) : nullptr;

  train::Job job;
  job.observers = build_observers(config, context, shown_metrics(grpo));
  if (context.communicator.rank() == 0) {
    job.observers.push_back(std::make_unique<rl::CompletionsLogStart>(completions));
    job.observers.push_back(std::make_unique<rl::PolicyReport>(
        context.output_dir, [&logger = context.logger](const std::string& text) { logger.warn(text); }));
  }
  if (config.training.eval_strategy != train::EvalStrategy::kNo || config.training.eval_on_start)
    job.evaluations.push_back(build_policy_evaluation(
        config, assets, [&] { return scorer; }, pool, completions, context,
        tell_observers(job, "evaluating", context.logger)));
  const int64_t per_epoch = plan.updates_per_epoch();
  job.max_steps =
      plan.batch().count_updates(config.training.max_steps, config.training.num_train_epochs, plan.rounds_per_epoch());
  job.data_fingerprint = fingerprint(config, *prompts, plan.batch());
  context.logger.info("plan: ", job.max_steps, " updates, ", per_epoch,
                      " per epoch; a round of sampling: ", plan.batch().describe());
  context.logger.info(rl::explain_loss(grpo, plan.batch().is_on_policy()));
  if (const std::string divisor = rl::explain_divisor(grpo.loss_type, plan.batch()); !divisor.empty())
    context.logger.warn(divisor);
  if (!plan.batch().is_on_policy() && config.lora && config.lora->lora_dropout > 0)
    context.logger.warn(
        "lora.lora_dropout: off-policy, the ratios to the policy that sampled, which has no dropout, are "
        "not 1 even before it has changed");
  job.schedule = build_schedule(config, job.max_steps, context.logger);
  auto loss = std::make_unique<rl::GrpoLoss>(grpo, context.device, /*compares_sampler=*/true);
  if (grpo.use_adaptive_entropy) job.callbacks.push_back(std::make_unique<rl::AdaptiveEntropy>(grpo, *loss));
  job.loss = std::move(loss);
  build_trained_model(job, config, context);
  if (pool && pool->are_learned()) save_with_pool(job, pool, context.communicator);
  if (config.training.full_determinism) require_isolated_rows(*job.model);
  warn_of_long_prompts(*prompts, grpo, *job.model, context.logger);
  const auto reference = build_reference(config, job, context);
  job.source = std::make_unique<rl::RolloutSource>(
      grpo, plan, prompts,
      rl::RolloutParts{.model = *job.model,
                       .shards = job.shards.get(),
                       .hooks = job.hooks.get(),
                       .assets = assets,
                       .communicator = context.communicator,
                       .device = context.device,
                       .seed = context.seed,
                       .logger = context.logger,
                       .reference = reference,
                       .scorer = scorer,
                       .rewards = grpo.judged_by.rewards,
                       .reward_weights = rewards::weights_of(grpo.judged_by.rewards, grpo.reward_weights),
                       .pool = pool,
                       .max_failed_rewards = grpo.judged_by.max_failed_rewards,
                       .isolates_rows = config.training.full_determinism,
                       .completions = completions,
                       .heart = context.heart,
                       .on_sampled = tell_observers(job, "sampling", context.logger),
                       .must_stop = [&context] { return context.is_asked_to_stop(); }});
  return job;
}

}  // namespace dsft::recipe
