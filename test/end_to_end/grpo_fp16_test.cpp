// GRPO with weights of 16 bits whose loss is scaled.
#include <string>
#include <vector>

#include "catch_amalgamated.hpp"
#include "end_to_end/grpo_job.h"

namespace dsft::test {
namespace {

using nlohmann::json;

// Lines of a run; all its numbers are finite, but the norm of gradients that overflowed.
std::vector<json> sound_metrics(const GrpoJob& job, const std::string& output, std::vector<std::string> settings,
                                size_t num_updates) {
  settings.push_back("training.max_steps=" + std::to_string(num_updates));
  const ProgramRun run = job.run(1, output, settings);
  INFO(run.err);
  REQUIRE(run.exit_code == 0);
  const std::vector<json> lines = job.metrics(output);
  REQUIRE(lines.size() == num_updates);
  for (const json& line : lines)
    for (const auto& [name, value] : line.items()) {
      INFO(name << " of " << line.dump());
      CHECK((value.is_boolean() || value.is_number() || (name == "grad_norm" && line.contains("skipped"))));
    }
  return lines;
}

}  // namespace

TEST_CASE("A policy in fp16 samples and trains much as one in fp32", "[end_to_end]") {
  // many short answers: rounding moves the bounds of a draw, and what follows another token is another text
  const GrpoJob job(kShort);
  const auto run = [&](const std::string& dtype) {
    return sound_metrics(job, dtype,
                         {"model.dtype=" + dtype, "training.per_device_train_batch_size=64",
                          "training.learning_rate=1.0e-3", "grpo.max_completion_length=3", "grpo.num_generations=8"},
                         2);
  };
  const std::vector<json> wide = run("fp32"), narrow = run("fp16");
  for (size_t i = 0; i < wide.size(); ++i) {
    INFO(narrow[i].dump() << "\n" << wide[i].dump());
    CHECK(narrow[i]["loss_scale"] == 65536);
    CHECK_FALSE(narrow[i].contains("skipped"));
    const auto require_near = [&](const char* name, double margin) {
      INFO(name);
      CHECK(narrow[i].at(name).get<double>() == Catch::Approx(wide[i].at(name).get<double>()).margin(margin));
    };
    require_near("reward", 0.05);
    require_near("reward_std", 0.03);
    require_near("entropy", 0.15);
    require_near("grad_norm", 0.3 * wide[i].at("grad_norm").get<double>());
    CHECK(narrow[i]["sampling/sampling_logp_difference/mean"] < 0.01);
  }
}

TEST_CASE("An update of GRPO whose gradients overflow is skipped, and the next one has half the loss scale",
          "[end_to_end]") {
  const GrpoJob job(kShort);
  constexpr double kFirstScale = 1 << 22;
  std::vector<std::string> settings = {"training.per_device_train_batch_size=8"};
  if (GENERATE(false, true)) {
    const std::string file =
        job.folder.write("ds.json", R"({"fp16": {"enabled": true, "initial_scale_power": 22, "hysteresis": 1}})")
            .string();
    settings.insert(settings.end(), {"deepspeed=" + file, "model.dtype=null"});
  } else {
    settings.insert(settings.end(), {"model.dtype=fp16", "training.loss_scaler.initial_scale_power=22",
                                     "training.loss_scaler.hysteresis=1"});
  }
  const std::vector<json> lines = sound_metrics(job, "run", settings, 8);
  double scale = kFirstScale;
  for (const json& line : lines) {
    INFO(line.dump());
    CHECK(line.at("loss_scale") == scale);
    if (line.contains("skipped")) scale /= 2;
  }
  CHECK(lines.front().contains("skipped"));
  CHECK_FALSE(lines.back().contains("skipped"));
  CHECK(scale > 1024);
}

}  // namespace dsft::test
