// Part of kernels_*.cpp: the loops before it, as a table.

const Kernels kTable = {
    load,   store,         store_finite,     is_finite, angles, rotate,     center,        uncenter,     hadamard,        product, step,
    unstep, range_of_runs, range_of_columns, seal,      unseal, group_runs, group_columns, ungroup_runs, ungroup_columns, fp8,     unfp8,
};
