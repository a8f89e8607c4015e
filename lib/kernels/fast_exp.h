#pragma once

#include <bit>
#include <cstdint>

namespace dsft::kernels {

/// e^x in fp32 within 2 units in the last place for x in [-87.3, 88.7], clamped outside: range reduction by ln 2 in two
/// parts and a polynomial of degree 6 (minimax coefficients as in Cephes expf), free of branches so that loops over it
/// vectorise.
[[gnu::always_inline]] inline float fast_exp(float x) {
  x = x < -87.33654f ? -87.33654f : x;
  x = x > 88.72283f ? 88.72283f : x;
  const float n = __builtin_floorf(x * 1.44269504088896341f + 0.5f);
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  const float value = p * r * r + r + 1.0f;
  // Two factors of 2^(n/2), so that n = 128 does not overflow the exponent field.
  const int32_t exponent = static_cast<int32_t>(n);
  const int32_t half = exponent >> 1;
  return value * std::bit_cast<float>((half + 127) << 23) * std::bit_cast<float>((exponent - half + 127) << 23);
}

}  // namespace dsft::kernels
