#pragma once

namespace dsft::config {
class Fields;
}  // namespace dsft::config

namespace dsft::train {

/// Lists the arguments of transformers.TrainingArguments and trl.SFTConfig that are no keys here, but that a script may
/// carry: those that change nothing are accepted with a warning, the others are refused with what to write instead.
void describe_other_arguments(config::Fields& fields);

}  // namespace dsft::train
