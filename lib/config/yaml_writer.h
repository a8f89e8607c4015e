#pragma once

#include <string>

#include "config/node.h"

namespace dsft::config {

/// A tree as YAML that every reader (1.1 and 1.2) understands alike: maps as blocks, lists of scalars in brackets,
/// texts quoted where needed.
std::string write_yaml(const Node& node);

/// A tree as JSON on one line, map keys in the order written. Plain scalars are numbers, booleans and null where they
/// look so (YAML 1.1).
std::string write_json(const Node& node);

}  // namespace dsft::config
