/** The benchmarks' own record: where a loop stands between two calls. Read by bench/ as well. */

/** u32 number of operations done so far. */
export const BENCH_COUNT: usize = 0;
/** u32 state of the random sequence, never 0. */
export const BENCH_SEED: usize = 4;
/** u32 hash of every answer so far. */
export const BENCH_DIGEST: usize = 8;
/** u64 answers of the operations in flight, -1 for one that failed. */
export const BENCH_RING: usize = 64;
export const BENCH_BYTES: u32 = 1024;

/** Copy kernels. */
export const KERNEL_ENGINE: i32 = 0;
export const KERNEL_MEMORY_COPY: i32 = 1;
export const KERNEL_V128: i32 = 2;

/** A copy that a run of maps made: u32 to, u32 from. */
export const MOVE_TO: usize = 0;
export const MOVE_FROM: usize = 4;
export const MOVE_SHIFT: u32 = 3;
