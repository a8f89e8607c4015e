#include <array>

#include "base/nearest_name.h"
#include "spec/decoder_fields.h"

namespace dsft::spec {

namespace {

constexpr double kLargest = 1e12;

struct RopeTypeRow {
  const char* name;
  RopeSpec::Type type;
};
constexpr std::array<RopeTypeRow, 5> kRopeTypes = {{{"default", RopeSpec::Type::kDefault},
                                                    {"linear", RopeSpec::Type::kLinear},
                                                    {"dynamic", RopeSpec::Type::kDynamic},
                                                    {"yarn", RopeSpec::Type::kYarn},
                                                    {"llama3", RopeSpec::Type::kLlama3}}};

RopeSpec::Type read_type(const JsonFields& rope) {
  const std::string key = rope.is_written("rope_type") ? "rope_type" : "type";
  const std::string name = rope.text(key, "default");
  std::vector<std::string> known;
  for (const RopeTypeRow& row : kRopeTypes) {
    if (name == row.name) return row.type;
    known.emplace_back(row.name);
  }
  rope.fault(key, "is \"", name.substr(0, 80), "\"; dsft knows ", join_words(known));
  return RopeSpec::Type::kDefault;
}

double required_number(const JsonFields& rope, const std::string& key, double fallback) {
  if (!rope.has(key)) rope.fault(key, "is missing; this type of scaling needs it");
  return rope.number(key, fallback, 1e-6, kLargest);
}

void read_yarn(const JsonFields& rope, RopeSpec& spec, int64_t max_position_embeddings) {
  // A factor of null means the ratio of the context lengths (transformers' _compute_yarn_parameters).
  const double implied =
      static_cast<double>(max_position_embeddings) / static_cast<double>(spec.original_max_position_embeddings);
  spec.factor = rope.is_written("factor") ? rope.number("factor", implied, 1e-6, kLargest)
                                          : required_number(rope, "factor", implied);
  spec.attention_factor = rope.optional_number("attention_factor", 0.0, kLargest);
  spec.mscale = rope.optional_number("mscale", 0.0, kLargest);
  spec.mscale_all_dim = rope.optional_number("mscale_all_dim", 0.0, kLargest);
  // A zero counts as absent there, hence here.
  const auto or_default = [&](const char* key, double fallback) {
    const double value = rope.number(key, fallback, 0.0, kLargest);
    return value == 0.0 ? fallback : value;
  };
  spec.beta_fast = or_default("beta_fast", 32.0);
  spec.beta_slow = or_default("beta_slow", 1.0);
  spec.truncate = rope.boolean("truncate", true);
}

}  // namespace

RopeSpec read_rope(const JsonFields& fields, const nlohmann::json& config, std::vector<std::string>& faults,
                   int64_t max_position_embeddings) {
  RopeSpec spec;
  const bool has_scaling = fields.has("rope_scaling") && !config["rope_scaling"].empty();
  const std::string key = has_scaling ? "rope_scaling" : "rope_parameters";
  nlohmann::json parameters = nlohmann::json::object();
  if (fields.has(key)) {
    if (config[key].is_object()) {
      parameters = config[key];
    } else {
      fields.fault(key, "must be an object");
    }
  }
  const JsonFields rope(parameters, faults, key + ".");
  for (const char* layer_type : {"full_attention", "sliding_attention"}) {
    if (rope.has(layer_type))
      rope.fault(layer_type, "gives rotary parameters per layer type, which dsft does not compute");
  }
  const double partial = rope.has("partial_rotary_factor") ? rope.number("partial_rotary_factor", 1.0, 0.0, 1.0)
                                                           : fields.number("partial_rotary_factor", 1.0, 0.0, 1.0);
  if (partial != 1.0) fields.fault("partial_rotary_factor", "is ", partial, "; dsft rotates whole heads only");
  spec.theta = rope.has("rope_theta") ? rope.number("rope_theta", 10000.0, 1e-6, 1e15)
                                      : fields.number("rope_theta", 10000.0, 1e-6, 1e15);
  spec.type = read_type(rope);
  if (spec.type == RopeSpec::Type::kLlama3 || spec.type == RopeSpec::Type::kYarn) {
    // The place outside of the dictionary wins, as in standardize_rope_params.
    const JsonFields& holder = fields.has("original_max_position_embeddings") ? fields : rope;
    spec.original_max_position_embeddings =
        holder.integer("original_max_position_embeddings", max_position_embeddings, 1, int64_t{1} << 40);
  }
  switch (spec.type) {
    case RopeSpec::Type::kDefault:
      break;
    case RopeSpec::Type::kLinear:
    case RopeSpec::Type::kDynamic:
      spec.factor = required_number(rope, "factor", 1.0);
      break;
    case RopeSpec::Type::kLlama3:
      spec.factor = required_number(rope, "factor", 1.0);
      spec.low_freq_factor = required_number(rope, "low_freq_factor", 1.0);
      spec.high_freq_factor = required_number(rope, "high_freq_factor", 4.0);
      break;
    case RopeSpec::Type::kYarn:
      read_yarn(rope, spec, max_position_embeddings);
      break;
  }
  return spec;
}

}  // namespace dsft::spec
