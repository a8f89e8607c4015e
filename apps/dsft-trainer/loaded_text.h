#pragma once

#include "data/example_builder.h"
#include "options/compute_options.h"
#include "recipe/build_model.h"
#include "spec/generation_defaults.h"

namespace dsft::apps {

/// A model for use, with what its checkpoint says about text.
struct LoadedText {
  std::shared_ptr<model::CausalLm> model;
  data::TextAssets assets;
  spec::GenerationDefaults generation;
};

/// Loads the model and, where `adapter` is not empty, the adapter of a command that neither trains nor has a recipe.
/// Tokenizer and chat template are the adapter's where its folder has them (spec::find_text_folders).
LoadedText load_text_model(const std::string& model, const std::string& adapter, const ComputeOptions& compute,
                           const Logger& logger);

}  // namespace dsft::apps
