#pragma once

#include "text/aligned_text.h"

namespace dsft::text {

/// The four normalization forms of Unicode (UAX #15).
enum class NormalizationForm { kNfc, kNfd, kNfkc, kNfkd };

/// Brings a text into a form. A character made of several keeps the bytes of all of them as its source. Text that has
/// the form already is not copied.
void normalize_unicode(AlignedText& text, NormalizationForm form);

}  // namespace dsft::text
