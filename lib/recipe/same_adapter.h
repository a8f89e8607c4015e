#pragma once

#include <filesystem>

#include "spec/adapter_settings.h"
#include "spec/model_spec.h"

namespace dsft::recipe {

/// Throws kCheckpoint where a checkpoint's adapter is not the one that this run trains, naming the keys of the section
/// lora that differ: its tensors would not fit, or would be scaled otherwise.
void require_same_adapter(const spec::AdapterSettings& saved, const spec::AdapterSettings& trained,
                          const spec::ModelSpec& spec, const std::filesystem::path& checkpoint);

}  // namespace dsft::recipe
