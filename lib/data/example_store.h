#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "data/example.h"

namespace dsft::data {

/// Rows tokenised, cut to max_length and free of unsupervised ones, with random access in O(1). Reading is safe from
/// several threads.
class ExampleStore {
 public:
  virtual ~ExampleStore() = default;
  virtual int64_t size() const = 0;
  virtual int64_t length(int64_t row) const = 0;          ///< tokens of a row
  virtual int64_t num_supervised(int64_t row) const = 0;  ///< supervised tokens of a row
  virtual Example read(int64_t row) const = 0;
};

}  // namespace dsft::data
