#include "train/training_step.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace dsft::train {

namespace {

// Tokens times weights of a layer that take as long to compute as the layer's kernels to enqueue: about 2 ms on an H100
// and its host.
constexpr int64_t kLaunchBound = int64_t{1} << 37;

constexpr double kNoExtreme = -std::numeric_limits<double>::infinity();

int64_t weights_of_layer(const model::CausalLm& model) {
  int64_t count = 0;
  for (const auto& [name, parameter] : model.block_parameters(1)) count += parameter.numel();
  return count;
}

}  // namespace

GraphLimits graph_limits(int64_t weights_of_layer) {
  GraphLimits limits;
  limits.max_tokens = std::min(limits.max_tokens, kLaunchBound / weights_of_layer);
  return limits;
}

std::optional<GraphLimits> possible_graphs(const model::CausalLm& model, const loss::Loss& loss) {
  if (!device::has_graphs(model.device()) || !model.can_be_recorded() || !loss.can_be_recorded()) return std::nullopt;
  return graph_limits(weights_of_layer(model));
}

StepNumbers EnqueuedStep::read(comm::Communicator& communicator) const {
  const at::Tensor own = numbers.wait();
  const auto num_sums = static_cast<int64_t>(metrics.size()) + 1;
  at::Tensor sums = own.narrow(0, 0, num_sums).clone();
  communicator.all_reduce(sums);
  const double* of_all = sums.const_data_ptr<double>();
  const double* of_optimizer = own.const_data_ptr<double>() + num_sums + extremes.size();
  StepNumbers result{.loss = of_all[0],
                     .metrics = {},
                     .grad_norm = of_optimizer[0],
                     .learning_rate = of_optimizer[1],
                     .is_applied = of_optimizer[2] != 0};
  for (size_t i = 0; i < metrics.size(); ++i) result.metrics[metrics[i]] = of_all[i + 1];
  if (extremes.empty()) return result;
  at::Tensor largest = own.narrow(0, num_sums, static_cast<int64_t>(extremes.size())).clone();
  communicator.all_reduce(largest, comm::ReduceOp::kMax);
  for (size_t i = 0; i < extremes.size(); ++i) {
    const double value = largest.const_data_ptr<double>()[i];
    if (std::isfinite(value)) result.metrics[extremes[i].name] = extremes[i].is_largest ? value : -value;
  }
  return result;
}

/// Of an update, over all ranks.
struct TrainingStep::Totals {
  std::vector<double> denominators;
  int64_t num_tokens = 0;
  bool reduces_in_pass = false;  // the last micro-batch's, on every rank
};

TrainingStep::TrainingStep(StepParts parts, StepOptions options)
    : parts_(std::move(parts)), options_(std::move(options)), runner_(options_.keep, parts_.hooks), mode_{parts_.seed} {
  DSFT_CHECK(!options_.graphs || !options_.after_part, "the parts of a graph cannot be told apart");
  if (!options_.graphs) return;
  DSFT_CHECK(!device::has_graphs(parts_.model.device()) || possible_graphs(parts_.model, parts_.loss),
             "a pass that reads the batch on the host would be recorded with one batch's documents");
  graphs_.emplace(parts_.model.device(), *options_.graphs);
  optimizer_graph_.emplace(graphs_->group());
}

EnqueuedStep TrainingStep::run(const std::vector<Batch>& micro_batches, int64_t step) {
  step_ = step;
  device::Moment begin(parts_.model.device());
  enter("counting tokens");
  const Totals totals = count(micro_batches, step);
  set_denominators(totals.denominators);
  if (sums_.defined()) sums_.zero_();
  if (extremes_.defined()) extremes_.fill_(kNoExtreme);
  for (const Batch& batch : micro_batches) {
    if (records(batch))
      graphs_->run(batch, [this](const Batch& padded) { pass_over(padded, /*reduces=*/false); });
    else
      pass_over(batch.to(parts_.model.device()), totals.reduces_in_pass && &batch == &micro_batches.back());
  }
  enter("optimizer");
  device::Moment optimizer_begin(parts_.model.device());
  if (!totals.reduces_in_pass) parts_.optimizer.reduce();
  const zero::StepResult result =
      parts_.optimizer.clip_and_step(parts_.learning_rates, optimizer_graph_ ? &*optimizer_graph_ : nullptr);
  passed(StepPart::kOptimizer);
  const at::Tensor of_optimizer =
      torch::stack({result.grad_norm, result.learning_rate, result.is_applied.to(at::kDouble)});
  const at::Tensor numbers = torch::cat({sums_, extremes_, of_optimizer});
  device::Moment end(parts_.model.device());
  return {.num_tokens = totals.num_tokens,
          .loss_scale = result.loss_scale,
          .metrics = metrics_,
          .extremes = extreme_names_,
          .begin = std::move(begin),
          .optimizer_begin = std::move(optimizer_begin),
          .end = std::move(end),
          .numbers = device::HostCopy(numbers)};
}

void TrainingStep::rehearse(const Batch& batch) {
  const size_t num_denominators = parts_.loss.counts({batch}).size();
  set_denominators(std::vector<double>(num_denominators, std::numeric_limits<double>::infinity()));
  try {
    parts_.optimizer.rehearse_backward(forward(batch.to(parts_.model.device())));
  } catch (...) {
    parts_.optimizer.discard_gradients();
    throw;
  }
  parts_.optimizer.discard_gradients();  // 0, but where something overflows: 0 times infinity is none
}

void TrainingStep::set_denominators(const std::vector<double>& values) {
  const at::Tensor host = torch::tensor(std::vector<float>(values.begin(), values.end()));
  if (!denominators_.defined()) denominators_ = torch::empty_like(host, at::TensorOptions(parts_.model.device()));
  device::copy_from_host(host, denominators_);
}

TrainingStep::Totals TrainingStep::count(const std::vector<Batch>& micro_batches, int64_t step) const {
  // One vector for all counts: denominators, tokens, and whether the last micro-batch is recorded.
  std::vector<double> counts = parts_.loss.counts(micro_batches);
  const size_t num_denominators = counts.size();
  double num_tokens = 0;
  for (const Batch& batch : micro_batches)
    if (!batch.is_stand_in) num_tokens += static_cast<double>(batch.num_tokens());
  counts.push_back(num_tokens);
  counts.push_back(records(micro_batches.back()) ? 1 : 0);
  at::Tensor sums = torch::tensor(counts, at::kDouble);
  parts_.communicator.all_reduce(sums);
  double* totals = sums.data_ptr<double>();
  if (parts_.loss.may_be_empty()) std::replace(totals, totals + num_denominators, 0.0, 1.0);
  if (std::find(totals, totals + num_denominators, 0.0) != totals + num_denominators)
    fail(ErrorKind::kData, "step ", step,
         " has no supervised token in any of its rows. Check data.loss_on with `dsft preview`.");
  return {.denominators = {totals, totals + num_denominators},
          .num_tokens = static_cast<int64_t>(totals[num_denominators]),
          .reduces_in_pass = totals[num_denominators + 1] == 0};
}

// `reduces`: the gradients are summed over the ranks on the way.
void TrainingStep::pass_over(const Batch& batch, bool reduces) {
  enter("forward");
  const at::Tensor objective = forward(batch);
  passed(StepPart::kForward);
  enter("backward");
  parts_.optimizer.backward(objective, reduces);
  passed(StepPart::kBackward);
}

// This micro-batch's share of the update's objective.
at::Tensor TrainingStep::forward(const Batch& batch) {
  const at::Tensor hidden = parts_.model.hidden_states(batch, runner_, &mode_);
  const loss::LossResult result = parts_.loss.compute(parts_.model, hidden, batch, runner_, &mode_);
  at::Tensor objective;
  for (const loss::Sum& term : result.terms) {
    const at::Tensor part = term.value / denominators_[static_cast<int64_t>(term.denominator)];
    objective = objective.defined() ? objective + part : part;
  }
  add_to_numbers(objective.detach(), result);
  return objective;
}

void TrainingStep::add_to_numbers(const at::Tensor& objective, const loss::LossResult& result) {
  std::vector<at::Tensor> values = {objective.to(at::kDouble)};
  std::vector<std::string> names;
  for (const loss::Sum& metric : result.metrics) {
    values.push_back((metric.value.detach() / denominators_[static_cast<int64_t>(metric.denominator)]).to(at::kDouble));
    names.push_back(metric.name);
  }
  std::vector<at::Tensor> largest;
  std::vector<ExtremeName> extreme_names;
  for (const loss::Extreme& extreme : result.extremes) {
    const at::Tensor value = extreme.value.detach().to(at::kDouble);
    largest.push_back(extreme.is_largest ? value : -value);
    extreme_names.push_back({extreme.name, extreme.is_largest});
  }
  const at::Tensor stacked = torch::stack(values);
  if (!sums_.defined()) {
    sums_ = torch::zeros_like(stacked);
    extremes_ = torch::full({static_cast<int64_t>(largest.size())}, kNoExtreme, stacked.options());
    metrics_ = names;
    extreme_names_ = extreme_names;
  }
  DSFT_CHECK(names == metrics_ && extreme_names == extreme_names_,
             "a micro-batch has other metrics than the one before");
  sums_.add_(stacked);
  if (!largest.empty()) torch::maximum_out(extremes_, extremes_, torch::stack(largest));
}

void TrainingStep::enter(const char* part) const {
  if (parts_.heart) parts_.heart->enter(watchdog::PhaseKind::kStep, part, step_);
}

void TrainingStep::passed(StepPart part) const {
  if (options_.after_part) options_.after_part(part);
}

}  // namespace dsft::train
