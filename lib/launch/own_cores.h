#pragma once

#include <vector>

#include "launch/other_launchers.h"

namespace dsft::launch {

/// The CPUs (hardware threads) of one core.
using Core = std::vector<int>;

/// The CPUs of a rank's share of a machine's cores: whole cores, neighbours, equal shares within one. Nothing where
/// there are fewer cores than ranks, which then share them all.
std::vector<int> own_cpus(const std::vector<Core>& cores, int local_rank, int local_size);

/// The cores that this thread may run on, package by package.
std::vector<Core> usable_cores();

/// Cores that this process may use: its affinity and the CPU quota of its control group.
int count_usable_cores();

/// Binds this thread, and all that it starts from now on, to the share of a rank, where the launcher asks for it by
/// DSFT_BIND_CORES=1.
void bind_to_own_cores(int local_rank, int local_size, const GetVariable& get_variable);

}  // namespace dsft::launch
