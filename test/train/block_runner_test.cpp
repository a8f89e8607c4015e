// The block runner on whole models: recomputation and a fake stage 3 must not change a single bit of plain autograd's
// gradients.
#include <cstring>
#include <map>
#include <set>

#include "catch_amalgamated.hpp"
#include "device/device.h"
#include "lora/adapters.h"
#include "loss/loss.h"
#include "nn/embedding.h"
#include "support/tiny_model.h"
#include "zero/flat_parameters.h"

using namespace dsft;

namespace {

// The modules of a model called one after another: what autograd makes of them where no runner stands between.
class WithoutRunner final : public model::CausalLm {
 public:
  explicit WithoutRunner(std::shared_ptr<model::CausalLm> lm)
      : CausalLm(lm->spec()),
        lm_(std::move(lm)),
        rotary_(spec().rope, spec().head_dim, spec().max_position_embeddings, lm_->device()) {}

  int64_t num_blocks() const override { return lm_->num_blocks(); }
  std::vector<std::string> block_modules(int64_t block) const override { return lm_->block_modules(block); }
  bool has_tied_head() const override { return lm_->has_tied_head(); }
  bool has_head_dropout() const override { return lm_->has_head_dropout(); }
  bool can_be_recorded() const override { return false; }
  void prepare(const Batch& batch) const override { lm_->prepare(batch); }

  at::Tensor hidden_states(const Batch& batch, const nn::BlockRunner&, const model::TrainingMode* training,
                           nn::KvCache*) override {
    nn::ForwardContext context;
    std::tie(context.cos, context.sin) = rotary_.angles(batch.positions, batch.boundaries);
    context.documents = {batch.boundaries, batch.longest, batch.starts};
    context.dropout = model::dropout_keys(batch, training);
    nn::Residual stream{part<nn::Embedding>("model.embed_tokens").forward(batch.ids), {}};
    for (int64_t layer = 0; layer < spec().num_hidden_layers; ++layer)
      stream = part<nn::DecoderLayer>("model.layers." + std::to_string(layer)).forward(stream, context);
    return stream.sum();
  }

  std::vector<at::Tensor> run_head(
      const at::Tensor& rows, const nn::BlockRunner&,
      const std::function<std::vector<at::Tensor>(const at::Tensor&, const nn::Linear&)>& head) override {
    return head(part<nn::RmsNorm>("model.norm").forward(rows), part<nn::Linear>("lm_head"));
  }

 private:
  template <typename Module>
  const Module& part(const std::string& name) const {
    return dynamic_cast<const Module&>(*lm_->named_modules()[name]);
  }

  std::shared_ptr<model::CausalLm> lm_;
  nn::RotaryTable rotary_;
};

// What stage 3 will do, on one process: parameters of a block exist only between its hooks; its gradients leave as soon
// as they are final. Where an optimizer's flat buffers hold the parameters and the sums of their gradients, their
// memory is spoilt between the hooks in place of freed, and gradients stay where they add up.
class FakeStage3 final : public nn::BlockHooks {
 public:
  explicit FakeStage3(const model::CausalLm& model, const zero::FlatParameters* flat = nullptr) : flat_(flat) {
    for (int64_t block = 0; block < model.num_blocks(); ++block) {
      blocks_.emplace_back();
      for (const auto& [name, parameter] : model.block_parameters(block))
        blocks_.back().push_back({name, parameter, parameter.detach().clone(),
                                  static_cast<size_t>(parameter.storage_offset()) * parameter.element_size()});
      if (block == model.num_blocks() - 1 && model.spec().tie_word_embeddings)
        blocks_.back().insert(blocks_.back().end(), blocks_[0].begin(), blocks_[0].end());
    }
    is_tied_ = model.spec().tie_word_embeddings;
    for (auto& block : blocks_)
      for (auto& item : block) release(item);
  }

  void before_forward(int64_t block) override { gather(block); }
  void after_forward(int64_t block) override { release_block(block); }
  void before_backward(int64_t block) override {
    order.push_back(block);
    gather(block);
  }
  void before_gradients(int64_t block, bool is_recomputed) override {
    REQUIRE(block == order.back());
    were_recomputed.insert(is_recomputed);
    ++num_begun;
  }
  void after_backward(int64_t block) override {
    for (Item& item : blocks_[block]) {
      const bool is_shared = is_tied_ && item.name.starts_with("model.embed_tokens");
      if (!item.parameter.grad().defined() || is_shared) continue;
      at::Tensor& sum = gradients[item.name];
      if (flat_) {
        sum = item.parameter.grad().clone();
        continue;
      }
      // the reduce-scatter of a micro-batch, added to the shard's sum
      sum = sum.defined() ? sum + item.parameter.grad() : item.parameter.grad().clone();
      item.parameter.mutable_grad() = at::Tensor();
    }
    release_block(block);
  }

  // A tied embedding is reduced once, after the whole pass.
  void finish() {
    for (auto& block : blocks_)
      for (Item& item : block) {
        if (item.parameter.grad().defined() && !gradients.contains(item.name))
          gradients[item.name] = item.parameter.grad().clone();
        restore(item);
      }
  }

  std::map<std::string, at::Tensor> gradients;
  std::vector<int64_t> order;
  std::set<bool> were_recomputed;
  size_t num_begun = 0;  // gradients of blocks
  int64_t max_live = 0;

 private:
  struct Item {
    std::string name;
    at::Tensor parameter;
    at::Tensor shard;  // one rank: the whole of it
    size_t offset;     // bytes: projections of one input lie in one storage
  };

  // By raw memory: an in-place copy would bump the version that autograd watches.
  void restore(Item& item) {
    c10::StorageImpl* storage = item.parameter.storage().unsafeGetStorageImpl();
    if (storage->nbytes() == 0) {
      storage->set_data_ptr_noswap(storage->allocator()->allocate(sizes_[storage]));
      storage->set_nbytes(sizes_[storage]);
    }
    std::memcpy(static_cast<char*>(storage->mutable_data()) + item.offset, item.shard.const_data_ptr(),
                item.shard.nbytes());
  }
  void release(Item& item) {
    c10::StorageImpl* storage = item.parameter.storage().unsafeGetStorageImpl();
    if (storage->nbytes() == 0) return;
    if (is_flat(item.parameter)) {
      std::memset(static_cast<char*>(storage->mutable_data()) + item.offset, 0xff, item.shard.nbytes());  // NaN
      return;
    }
    sizes_[storage] = storage->nbytes();
    storage->set_data_ptr_noswap(storage->allocator()->allocate(0));
    storage->set_nbytes(0);
  }
  bool is_flat(const at::Tensor& parameter) const {
    const auto holds = [&](const at::Tensor& buffer) {
      return buffer.defined() && parameter.storage().is_alias_of(buffer.storage());
    };
    return flat_ && (holds(flat_->values) || holds(flat_->narrow_values));
  }
  void gather(int64_t block) {
    for (Item& item : blocks_[block]) restore(item);
    live_.insert(block);
    max_live = std::max<int64_t>(max_live, live_.size());
  }
  void release_block(int64_t block) {
    for (Item& item : blocks_[block]) release(item);
    live_.erase(block);
  }

  const zero::FlatParameters* flat_;
  std::vector<std::vector<Item>> blocks_;
  std::map<c10::StorageImpl*, size_t> sizes_;
  std::set<int64_t> live_;
  bool is_tied_ = false;
};

lora::LoraConfig all_linear(double dropout) {
  lora::LoraConfig config;
  config.r = 4;
  config.lora_alpha = 8;
  config.lora_dropout = dropout;
  return config;
}

std::shared_ptr<model::CausalLm> make_model(const std::string& name, bool with_lora, double dropout,
                                            at::ScalarType dtype = at::kFloat) {
  auto lm = test::load_tiny_model(name);
  if (dtype != at::kFloat)
    for (at::Tensor& parameter : lm->parameters()) parameter.set_data(parameter.to(dtype));
  if (with_lora) {
    const lora::LoraConfig config = all_linear(dropout);
    lora::attach(*lm, spec::match_lora_targets(lm->spec(), config), {}, config, 7);
    torch::NoGradGuard no_grad;
    torch::manual_seed(11);
    for (auto& item : lora::adapted_modules(*lm))
      item.linear->adapter()->b.copy_(torch::randn_like(item.linear->adapter()->b) * 0.05);
  } else {
    for (at::Tensor& parameter : lm->parameters()) parameter.requires_grad_(true);
  }
  return lm;
}

// Two micro-batches, so that gradients add up.
void run_backward(model::CausalLm& lm, const nn::BlockRunner& runner) {
  const model::TrainingMode mode{42};
  const loss::CausalLmLoss causal;
  for (int64_t part = 0; part < 2; ++part) {
    const Batch batch = make_batch(test::random_documents({13, 7, 19}, lm.spec().vocab_size, 3 + part), 1);
    const at::Tensor hidden = lm.hidden_states(batch, runner, &mode);
    (causal.compute(lm, hidden, batch, runner, nullptr).terms[0].value / 30).backward();
  }
}

void run_backward_without_runner(const std::shared_ptr<model::CausalLm>& lm) {
  WithoutRunner direct(lm);
  run_backward(direct, nn::BlockRunner());
}

zero::FlatParameters flat_parameters_of(model::CausalLm& lm) {
  std::vector<zero::TrainableParameter> parameters;
  for (const auto& item : lora::trainable_tensors(lm)) parameters.push_back({item.name, item.tensor, true});
  return zero::FlatParameters(parameters);
}

std::map<std::string, at::Tensor> gradients_of(model::CausalLm& lm) {
  std::map<std::string, at::Tensor> gradients;
  for (const auto& item : lora::trainable_tensors(lm))
    if (item.tensor.grad().defined()) gradients[item.name] = item.tensor.grad();
  return gradients;
}

}  // namespace

TEST_CASE("Whatever a runner keeps, it gives plain autograd's gradients exactly", "[train]") {
  const std::string name = GENERATE("llama_plain", "qwen3", "qwen2");
  const bool with_lora = GENERATE(true, false);
  const double dropout = with_lora ? GENERATE(0.0, 0.3) : 0.0;
  INFO(name << (with_lora ? " LoRA" : " full") << " dropout " << dropout);
  auto plain = make_model(name, with_lora, dropout), run = make_model(name, with_lora, dropout);
  run_backward_without_runner(plain);
  using Keep = nn::BlockRunner::Keep;
  run_backward(*run, nn::BlockRunner(GENERATE(Keep::kGraph, Keep::kInput, Keep::kSelected)));
  const auto expected = gradients_of(*plain), actual = gradients_of(*run);
  REQUIRE(!expected.empty());
  REQUIRE(expected.size() == actual.size());
  for (const auto& [key, gradient] : expected) {
    INFO(key);
    CHECK(gradient.abs().max().item<double>() > 0);
    CHECK(torch::equal(gradient, actual.at(key)));
  }
}

TEST_CASE("On a GPU selective recomputation keeps neither gate nor up of a layer", "[train][gpu]") {
  if (!device::has_cuda()) SKIP("no GPU is visible");
  const at::Device gpu(at::kCUDA, 0);
  spec::ModelSpec spec = spec::read_model_spec(test::model_fixture("qwen3"));
  spec.intermediate_size = 4096;
  spec.num_hidden_layers = 4;
  auto lm = model::build_causal_lm(spec, at::kBFloat16, gpu);
  const lora::LoraConfig config = all_linear(0.0);
  lora::attach(*lm, spec::match_lora_targets(lm->spec(), config), {}, config, 7);
  {
    const torch::NoGradGuard no_grad;
    for (at::Tensor& parameter : lm->parameters()) parameter.normal_(0.0, 0.02);
  }
  constexpr int64_t kTokens = 8192;
  const Batch batch = make_batch(test::random_documents({kTokens}, spec.vocab_size, 3), 1).to(gpu);
  const auto peak_of = [&](nn::BlockRunner::Keep keep) {
    const model::TrainingMode mode{42};
    lm->hidden_states(batch, nn::BlockRunner(keep), &mode).sum().backward();
    return device::peak_memory_bytes(gpu);
  };
  const int64_t selective = peak_of(nn::BlockRunner::Keep::kSelected), all = peak_of(nn::BlockRunner::Keep::kGraph);
  // in its own backward pass a layer has them in both cases, and here its activation a second time
  const int64_t gate_up = kTokens * 2 * spec.intermediate_size * 2;
  const int64_t saved = (spec.num_hidden_layers - 1) * gate_up - gate_up / 2;
  CHECK(all - selective > saved * 9 / 10);
}

TEST_CASE("A fake stage 3 that gathers, releases and reduces through the hooks changes no gradient", "[train]") {
  const std::string name = GENERATE("llama_plain", "qwen3");  // untied and tied
  const bool with_lora = GENERATE(true, false);
  const auto keep = GENERATE(nn::BlockRunner::Keep::kInput, nn::BlockRunner::Keep::kGraph);
  INFO(name << (with_lora ? " LoRA" : " full") << (keep == nn::BlockRunner::Keep::kGraph ? ", graph in the node" : ""));
  auto plain = make_model(name, with_lora, 0.0), sharded = make_model(name, with_lora, 0.0);
  run_backward_without_runner(plain);
  FakeStage3 hooks(*sharded);
  run_backward(*sharded, nn::BlockRunner(keep, &hooks));
  hooks.finish();
  // each of the two micro-batches: strictly last to first
  REQUIRE(hooks.order.size() % 2 == 0);
  const size_t num_blocks = hooks.order.size() / 2;
  CHECK(num_blocks >= static_cast<size_t>(plain->spec().num_hidden_layers + 1));
  CHECK(std::is_sorted(hooks.order.rbegin(), hooks.order.rbegin() + static_cast<ptrdiff_t>(num_blocks)));
  CHECK(std::is_sorted(hooks.order.rbegin() + static_cast<ptrdiff_t>(num_blocks), hooks.order.rend()));
  CHECK(hooks.max_live == 1);
  CHECK(hooks.num_begun == hooks.order.size());
  CHECK(hooks.were_recomputed == std::set<bool>{keep == nn::BlockRunner::Keep::kInput});
  const auto expected = gradients_of(*plain);
  auto actual = gradients_of(*sharded);  // adapters stay where they are
  for (const auto& [key, gradient] : hooks.gradients) actual[key] = gradient;
  REQUIRE(!expected.empty());
  for (const auto& [key, gradient] : expected) {
    INFO(key);
    REQUIRE(actual.count(key) == 1);
    CHECK(torch::equal(gradient, actual.at(key)));
  }
}

TEST_CASE("Hooks that swap weights leave gradients in an optimizer's fp32 sums", "[train]") {
  const std::string name = GENERATE("llama_plain", "qwen3");  // untied and tied
  const bool with_lora = GENERATE(true, false);
  const auto dtype = GENERATE(at::kFloat, at::kBFloat16);
  const auto keep = GENERATE(nn::BlockRunner::Keep::kInput, nn::BlockRunner::Keep::kGraph);
  INFO(name << (with_lora ? " LoRA " : " full ") << c10::toString(dtype)
            << (keep == nn::BlockRunner::Keep::kGraph ? ", graph in the node" : ""));
  auto plain = make_model(name, with_lora, 0.0, dtype), sharded = make_model(name, with_lora, 0.0, dtype);
  const zero::FlatParameters expected = flat_parameters_of(*plain), actual = flat_parameters_of(*sharded);
  run_backward_without_runner(plain);
  FakeStage3 hooks(*sharded, &actual);
  run_backward(*sharded, nn::BlockRunner(keep, &hooks));
  hooks.finish();
  CHECK(hooks.max_live == 1);
  CHECK(hooks.gradients.empty() == with_lora);  // a block's own parameters; adapters are no part of it
  CHECK(actual.gradient.scalar_type() == at::kFloat);
  for (int64_t index = 0; index < actual.num_parameters(); ++index) {
    INFO(actual[index].name);
    const at::Tensor sum = actual.view(actual.gradient, index);
    CHECK(sum.abs().max().item<double>() > 0);
    CHECK(torch::equal(sum, expected.view(expected.gradient, index)));
    CHECK(actual[index].parameter.grad().data_ptr() == sum.data_ptr());
    if (const auto final = hooks.gradients.find(actual[index].name); final != hooks.gradients.end())
      CHECK(torch::equal(final->second, sum));  // as it was after the block's last backward pass
  }
}

TEST_CASE("With a frozen embedding gradients still reach the parameters behind it", "[train]") {
  auto lm = make_model("llama_plain", true, 0.0);
  run_backward(*lm, nn::BlockRunner(nn::BlockRunner::Keep::kInput));
  for (const auto& item : lora::trainable_tensors(*lm)) {
    INFO(item.name);
    CHECK(item.tensor.grad().defined());
  }
}

TEST_CASE("Packing does not leak: documents together give what each gives alone", "[train]") {
  auto lm = make_model("qwen3", true, 0.3);
  const auto documents = test::random_documents({13, 7, 19}, lm->spec().vocab_size, 3);
  const nn::BlockRunner runner;
  const model::TrainingMode mode{42};
  torch::NoGradGuard no_grad;
  const at::Tensor together = lm->hidden_states(make_batch(documents, 1), runner, &mode);
  int64_t begin = 0;
  for (const Document& document : documents) {
    const at::Tensor alone = lm->hidden_states(make_batch({document}, 1), runner, &mode);
    CHECK((together.narrow(0, begin, alone.size(0)) - alone).abs().max().item<double>() < 1e-5);
    begin += alone.size(0);
  }
}
