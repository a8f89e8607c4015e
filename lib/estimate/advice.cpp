#include "estimate/advice.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "estimate/gpus.h"

namespace dsft::estimate {
namespace {

using Recompute = train::GradientCheckpointing;

// A micro-batch of so many tokens keeps a GPU busy.
constexpr int64_t kBusyTokens = 8192;

struct Run {
  Workload workload;
  Placement placement;
  bool finds_batch_size = false;
};

// Settings that take less memory. `apply` is false where they are in force already, or would change nothing.
struct Change {
  std::string settings, cost;
  std::function<bool(Run&)> apply;
};

// "zero.stage: 3", with what has to go for it.
std::string name_of_stage(int64_t stage, const Run& run) {
  return concat("zero.stage: ", stage,
                stage == 3 && run.finds_batch_size ? " with training.auto_find_batch_size: false" : "");
}

Change higher_stage(int64_t stage, const Run& run) {
  const std::string costs[] = {"", "parameters are gathered after each update",
                               "gradients are reduced in every micro-batch",
                               "parameters are gathered in every pass, block by block"};
  return {name_of_stage(stage, run), costs[stage], [stage](Run& changed) {
            if (changed.placement.num_gpus < 2 || changed.placement.stage >= stage) return false;
            changed.placement.stage = stage;
            return true;
          }};
}

Change optimizer_offload(const Run& run) {
  const int64_t stage = std::max<int64_t>(2, run.placement.stage);
  return {stage == run.placement.stage ? "zero.offload_optimizer.device: cpu"
                                       : concat("zero.stage: ", stage, " with zero.offload_optimizer.device: cpu"),
          "the update runs on the host's cores", [](Run& changed) {
            if (!changed.workload.is_on_gpu || changed.placement.offloads_optimizer) return false;
            changed.placement.stage = std::max<int64_t>(2, changed.placement.stage);
            changed.placement.offloads_optimizer = true;
            return true;
          }};
}

Change parameter_offload(const Run& run) {
  const std::string offload = "zero.offload_param.device: cpu";
  return {run.placement.stage == 3 ? offload
                                   : concat(name_of_stage(3, run), run.finds_batch_size ? " and " : " with ", offload),
          "parameters are copied from the host in every pass", [](Run& changed) {
            if (!changed.workload.is_on_gpu || changed.placement.offloads_parameters) return false;
            changed.placement.stage = 3;
            changed.placement.offloads_parameters = true;
            return true;
          }};
}

Change recomputation(Recompute recompute) {
  const bool is_whole = recompute == Recompute::kTrue;
  return {concat("training.gradient_checkpointing: ", config::to_word(recompute)),
          is_whole ? "a forward pass more" : "about two thirds of a forward pass more", [recompute](Run& run) {
            const bool is_there = run.workload.recompute == Recompute::kTrue || run.workload.recompute == recompute;
            if (is_there) return false;
            run.workload.recompute = recompute;
            return true;
          }};
}

// In as many equal parts as make the fewest: the update stays what it is.
Change part_of_a_micro_batch(const Run& run) {
  const int64_t rows = run.workload.num_documents;
  int64_t parts = 2;
  while (parts < rows && rows % parts != 0) ++parts;
  return {concat("training.per_device_train_batch_size: ", rows / parts, " with ",
                 parts == 2 ? std::string("twice") : concat(parts, " times"), " the gradient_accumulation_steps",
                 run.workload.sampled ? " and, where it is written, the grpo.steps_per_generation" : ""),
          "the same update in smaller passes", [parts](Run& changed) {
            if (changed.workload.num_documents < 2) return false;
            changed.workload.num_documents /= parts;
            return true;
          }};
}

Change lora_instead() {
  return {"a section `lora`", "an adapter is trained in place of all weights", [](Run& run) {
            if (run.workload.lora) return false;
            run.workload.lora = lora::LoraConfig();
            return true;
          }};
}

std::vector<Change> changes_of(const Run& run) {
  return {higher_stage(1, run),
          higher_stage(2, run),
          higher_stage(3, run),
          optimizer_offload(run),
          parameter_offload(run),
          recomputation(Recompute::kSelective),
          recomputation(Recompute::kTrue),
          part_of_a_micro_batch(run),
          lora_instead()};
}

MemoryEstimate estimate_of(const Run& run) {
  return estimate_memory(run.workload, run.placement);
}

// Bytes on the device that computes: of one rank.
int64_t on_device(const MemoryEstimate& estimate, const Workload& workload) {
  return workload.is_on_gpu ? estimate.gpu.total() : estimate.host.total() / estimate.placement.num_gpus;
}

// The run as it is, and what is known of its memory.
class Memory {
 public:
  explicit Memory(const ShortOfMemory& run)
      : run_(run),
        estimated_(on_device(estimate_memory(run.workload, run.placement), run.workload)),
        beyond_(std::max<int64_t>(0, run.measured_peak_bytes - estimated_)) {}

  // nullopt: the host cannot hold what it offloads.
  std::optional<Remedy> outcome(const Run& changed, std::string settings, std::string cost) const {
    const MemoryEstimate estimate = estimate_of(changed);
    if (changed.workload.is_on_gpu && run_.host_bytes && estimate.host.total() > *run_.host_bytes) return std::nullopt;
    const int64_t bytes = on_device(estimate, changed.workload);
    return Remedy{.settings = std::move(settings),
                  .cost = std::move(cost),
                  .saved_bytes = estimated_ - bytes,
                  .peak_bytes = bytes + beyond_,
                  .fits = bytes + beyond_ <= usable_bytes(run_.device_bytes)};
  }

  bool is_worth_saying(const Remedy& remedy) const { return remedy.saved_bytes > estimated_ / 100; }

 private:
  const ShortOfMemory& run_;
  int64_t estimated_, beyond_;
};

// A remedy and what makes it.
struct Candidate {
  Remedy remedy;
  Change change;
};

// In the order in which they stand, until it fits; nullopt where it never does. What adds nothing is left out.
std::optional<Remedy> together(const Memory& memory, const Run& run, const std::vector<Candidate>& candidates) {
  Run changed = run;
  std::string settings, cost;
  int64_t saved = 0;
  for (const Candidate& candidate : candidates) {
    Run next = changed;
    if (!candidate.change.apply(next)) continue;
    const std::string so_far = settings.empty() ? "" : settings + "; ";
    const auto outcome = memory.outcome(next, so_far + candidate.change.settings,
                                        (cost.empty() ? "" : cost + "; ") + candidate.change.cost);
    if (!outcome || outcome->saved_bytes <= saved) continue;
    if (outcome->fits) return outcome;
    changed = next;
    settings = outcome->settings;
    cost = outcome->cost;
    saved = outcome->saved_bytes;
  }
  return std::nullopt;
}

std::string column_lines(const Columns& columns) {
  return concat("weights ", to_gib(columns.weights), ", gradients ", to_gib(columns.gradients), ", optimizer ",
                to_gib(columns.optimizer), ", activations ", to_gib(columns.activations), ", loss ",
                to_gib(columns.loss), ", buffers ", to_gib(columns.buffers));
}

int64_t percent(double part, double whole) {
  return whole > 0 ? std::llround(100 * part / whole) : 0;
}

// A run that has ended, and whether it would fit another way: estimates are corrected by what was measured.
class Ended {
 public:
  explicit Ended(const MeasuredRun& run)
      : run_(run), correction_(run.peak_bytes - on_device(estimate_memory(run.workload, run.placement), run.workload)) {
    if (run.sampling) correction_ = std::max<int64_t>(0, correction_);  // the longest completions may be yet to come
  }

  int64_t peak(const Run& changed) const { return on_device(estimate_of(changed), changed.workload) + correction_; }
  bool fits(const Run& changed) const { return peak(changed) <= usable_bytes(run_.device_bytes); }
  bool is_worth_saying(double seconds) const { return seconds >= kWorthSaying * run_.step_s; }
  Run as_it_is() const { return {run_.workload, run_.placement}; }
  std::string would_take(const Run& changed) const {
    return concat("about ", to_gib(peak(changed)), " of the ", to_gib(usable_bytes(run_.device_bytes)),
                  " that can be used");
  }
  std::string share(double seconds) const {
    return concat(percent(seconds, run_.step_s), run_.sampling ? " % of a step without its sampling" : " % of a step");
  }

 private:
  const MeasuredRun& run_;
  int64_t correction_;
};

void find_unneeded_offload(const MeasuredRun& run, const Ended& ended, std::vector<Finding>& found) {
  if (!run.placement.offloads_optimizer && !run.placement.offloads_parameters) return;
  Run all = ended.as_it_is();
  all.placement.offloads_optimizer = all.placement.offloads_parameters = false;
  Run parameters = ended.as_it_is();
  parameters.placement.offloads_parameters = false;
  const auto say = [&](const std::string& what, const Run& without, double seconds) {
    found.push_back({concat(what, " is not needed: without it a ", run.workload.is_on_gpu ? "GPU" : "rank", " takes ",
                            ended.would_take(without), ". The update took ", ended.share(run.optimizer_s), "."),
                     seconds});
  };
  if (ended.fits(all)) {
    const bool has_both = run.placement.offloads_optimizer && run.placement.offloads_parameters;
    say(has_both ? "zero.offload_optimizer with offload_param"
                 : (run.placement.offloads_optimizer ? "zero.offload_optimizer" : "zero.offload_param"),
        all, run.optimizer_s);
  } else if (run.placement.offloads_optimizer && run.placement.offloads_parameters && ended.fits(parameters)) {
    say("zero.offload_param", parameters, 0);
  }
}

void find_unneeded_recomputation(const MeasuredRun& run, const Ended& ended, std::vector<Finding>& found) {
  for (const Recompute less : {Recompute::kFalse, Recompute::kSelective}) {
    if (run.workload.recompute == less || run.workload.recompute == Recompute::kFalse) return;
    Run changed = ended.as_it_is();
    changed.workload.recompute = less;
    if (!ended.fits(changed)) continue;
    found.push_back({concat("training.gradient_checkpointing: ", config::to_word(less), " fits: it takes ",
                            ended.would_take(changed), ", and a backward pass computes less again."),
                     run.workload.recompute == Recompute::kTrue ? run.forward_s : run.forward_s * 2 / 3});
    return;
  }
}

void find_bare_communication(const MeasuredRun& run, const Ended& ended, std::vector<Finding>& found) {
  if (run.placement.num_gpus < 2 || !ended.is_worth_saying(run.communication_s)) return;
  if (!run.overlaps_communication) {
    found.push_back(
        {concat("zero.overlap_comm is false, and ", ended.share(run.communication_s),
                " went by waiting for other ranks: write true, so that they talk while the backward pass runs."),
         run.communication_s});
    return;
  }
  for (int64_t stage = 1; stage < run.placement.stage; ++stage) {
    Run changed = ended.as_it_is();
    changed.placement.stage = stage;
    changed.placement.offloads_parameters = false;
    if (!ended.fits(changed)) continue;
    found.push_back({concat("zero.stage: ", stage, run.placement.offloads_parameters ? " without offload_param" : "",
                            " fits and talks less: it takes ", ended.would_take(changed), ". ",
                            ended.share(run.communication_s), " went by waiting for other ranks."),
                     run.communication_s});
    return;
  }
}

void find_waiting_for_data(const MeasuredRun& run, const Ended& ended, std::vector<Finding>& found) {
  if (!ended.is_worth_saying(run.data_s)) return;
  found.push_back(
      {concat(ended.share(run.data_s), " went by waiting for batches: let data.num_workers have more cores."),
       run.data_s});
}

// Micro-batches of an update, and of a round of sampling that has a size of its own, as so many times fewer; nothing
// where they cannot be.
std::optional<std::string> in_fewer_passes(const MeasuredRun& run, int64_t factor) {
  const int64_t accumulation = run.gradient_accumulation_steps;
  if (accumulation % factor != 0) return std::nullopt;
  const std::string fewer = concat(" with gradient_accumulation_steps: ", accumulation / factor);
  if (!run.sampling || run.sampling->sized_by == RoundKey::kGradientAccumulation) return fewer;
  const int64_t of_round = run.sampling->steps_per_generation;
  if (of_round % factor != 0) return std::nullopt;
  if (run.sampling->sized_by == RoundKey::kGenerationBatchSize) return fewer;
  return concat(fewer, " and grpo.steps_per_generation: ", of_round / factor);
}

// As many times the micro-batch as fit: within the update where it accumulates, else while a GPU is hardly busy, unless
// completions of a round are counted by it. The cores of a host are busy with any.
void find_room(const MeasuredRun& run, const Ended& ended, std::vector<Finding>& found) {
  if (!run.workload.is_on_gpu) return;
  const bool accumulates = run.gradient_accumulation_steps > 1;
  int64_t factor = 1;
  while (true) {
    Run changed = ended.as_it_is();
    changed.workload.num_documents *= factor * 2;
    const bool is_small = !accumulates && !run.sampling && run.workload.num_tokens() * factor < kBusyTokens;
    if ((!in_fewer_passes(run, factor * 2) && !is_small) || !ended.fits(changed)) break;
    factor *= 2;
  }
  if (factor == 1) return;
  Run changed = ended.as_it_is();
  changed.workload.num_documents *= factor;
  found.push_back({concat("There is room for training.per_device_train_batch_size: ", changed.workload.num_documents,
                          accumulates ? *in_fewer_passes(run, factor) + ", which is the same update in fewer passes"
                                      : ", a larger update in one pass",
                          ": it takes ", ended.would_take(changed), "."),
                   0});
}

}  // namespace

std::vector<Remedy> remedies(const ShortOfMemory& short_of_memory) {
  const Memory memory(short_of_memory);
  const Run run{short_of_memory.workload, short_of_memory.placement, short_of_memory.finds_batch_size};
  std::vector<Candidate> candidates;
  for (const Change& change : changes_of(run)) {
    Run changed = run;
    if (!change.apply(changed)) continue;
    const auto remedy = memory.outcome(changed, change.settings, change.cost);
    if (remedy && memory.is_worth_saying(*remedy)) candidates.push_back({*remedy, change});
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [](const auto& a, const auto& b) { return a.remedy.saved_bytes > b.remedy.saved_bytes; });
  std::vector<Remedy> list;
  for (const Candidate& candidate : candidates) list.push_back(candidate.remedy);
  if (std::none_of(list.begin(), list.end(), [](const Remedy& remedy) { return remedy.fits; })) {
    if (auto all = together(memory, run, candidates)) list.push_back(*all);
  }
  return list;
}

std::string explain_out_of_memory(const ShortOfMemory& run) {
  const MemoryEstimate estimate = estimate_memory(run.workload, run.placement);
  const int64_t estimated = on_device(estimate, run.workload);
  const Columns& columns = run.workload.is_on_gpu ? estimate.gpu : estimate.host;
  std::string text = concat(
      "Measured: ", to_gib(run.measured_peak_bytes), run.workload.is_on_gpu ? " of tensors of " : " of the process of ",
      to_gib(run.device_bytes), " of memory. Estimated (", describe(estimate.placement), "): ", to_gib(estimated), "; ",
      column_lines(columns), "; a micro-batch of ", describe_rows(run.workload), ".");
  const std::vector<Remedy> list = remedies(run);
  if (list.empty())
    return concat(text, "\nNo other setting takes less: ",
                  run.workload.sampled ? "grpo.max_completion_length, shorter prompts" : "data.max_length",
                  ", or a smaller model, is what is left.");
  text += "\nWhat takes less, most first:";
  for (const Remedy& remedy : list)
    text += concat("\n  ", remedy.settings, ": ", to_gib(remedy.saved_bytes), " less, ", to_gib(remedy.peak_bytes),
                   remedy.fits ? " in all, which fits" : " in all, which is still too much", " (", remedy.cost, ")");
  return text;
}

std::vector<Finding> findings(const MeasuredRun& run) {
  const Ended ended(run);
  std::vector<Finding> found;
  find_unneeded_offload(run, ended, found);
  find_unneeded_recomputation(run, ended, found);
  find_bare_communication(run, ended, found);
  find_waiting_for_data(run, ended, found);
  find_room(run, ended, found);
  if (run.sampling)
    for (Finding& finding : sampling_findings(*run.sampling)) found.push_back(std::move(finding));
  std::stable_sort(found.begin(), found.end(),
                   [](const Finding& a, const Finding& b) { return a.seconds > b.seconds; });
  return found;
}

}  // namespace dsft::estimate
