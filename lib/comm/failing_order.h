#pragma once

namespace dsft::comm {

/// Where ranks fail of one cause, the one that says most has to be the first to end: a launcher shows its words. The
/// others call this before they fail.
void let_another_rank_fail_first();

}  // namespace dsft::comm
