#include "nn/leaf_gradient.h"

#include <torch/types.h>

#include <utility>

#include "base/error.h"
#include "kernels/float_products.h"

namespace dsft::nn {
namespace {

// Kept with the leaf itself: whoever makes its gradient has the leaf, and nothing else that both sides know.
struct OfferedGradient final : c10::BackendMeta {
  explicit OfferedGradient(at::Tensor place) : place(std::move(place)) {}
  at::Tensor place;
};

OfferedGradient* offer_of(const at::Tensor& leaf) {
  return static_cast<OfferedGradient*>(leaf.unsafeGetTensorImpl()->get_backend_meta());
}

}  // namespace

at::Tensor add_to_gradient(const at::Tensor& leaf, const at::Tensor& a, const at::Tensor& b, double scale) {
  if (const at::Tensor place = accept_offered_gradient(leaf); place.defined()) {
    kernels::write_product(place, a, b, scale);
    return {};
  }
  const at::Tensor& sum = leaf.grad();
  if (sum.defined() && (sum.scalar_type() == at::kFloat || sum.scalar_type() == a.scalar_type())) {
    kernels::add_product(sum, a, b, scale);
    return {};
  }
  const at::Tensor product =
      leaf.scalar_type() == a.scalar_type() ? at::mm(a, b) : kernels::multiply_to_float(a, b).to(leaf.scalar_type());
  return scale == 1.0 ? product : product.mul(scale);
}

void offer_gradient(const at::Tensor& leaf, const at::Tensor& place) {
  DSFT_CHECK(place.scalar_type() == at::kFloat && place.sizes() == leaf.sizes(),
             "a place for a gradient that does not fit its leaf");
  leaf.unsafeGetTensorImpl()->set_backend_meta(c10::make_intrusive<OfferedGradient>(place));
}

at::Tensor offered_gradient(const at::Tensor& leaf) {
  const OfferedGradient* offer = offer_of(leaf);
  return offer && !leaf.grad().defined() ? offer->place : at::Tensor();
}

at::Tensor accept_offered_gradient(const at::Tensor& leaf) {
  const at::Tensor place = offered_gradient(leaf);
  if (place.defined()) {
    withdraw_offered_gradient(leaf);
    at::Tensor(leaf).mutable_grad() = place;
  }
  return place;
}

bool withdraw_offered_gradient(const at::Tensor& leaf) {
  const bool was_offered = offer_of(leaf) != nullptr;
  if (was_offered) leaf.unsafeGetTensorImpl()->set_backend_meta(nullptr);
  return was_offered;
}

}  // namespace dsft::nn
