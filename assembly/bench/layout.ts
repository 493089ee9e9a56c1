/** The benchmarks' own record: where a loop stands between two calls. Read by bench/ as well. */

/** Where in its record a field of type T lies (bytes). */
type At<_T> = usize;

/**
 * Where a loop stands; then the answers of the operations in flight, -1 for one that failed: RING is the first of them.
 *
 *   BENCH_BYTES 0..1023
 *        0           4           8           12
 *      0 │ COUNT     │ SEED      │ DIGEST    │           │
 *      …
 *     64 │ RING                  │                       │
 *      …
 *   1008 │                                               │
 */
/** Operations done so far. */
export const BENCH_COUNT: At<u32> = 0;
/** State of the random sequence, never 0. */
export const BENCH_SEED: At<u32> = 4;
/** Hash of every answer so far. */
export const BENCH_DIGEST: At<u32> = 8;
export const BENCH_RING: At<u64> = 64;
export const BENCH_BYTES: u32 = 1024;

/** Copy kernels. */
export const KERNEL_ENGINE: i32 = 0;
export const KERNEL_MEMORY_COPY: i32 = 1;
export const KERNEL_V128: i32 = 2;

/**
 * A copy that a run of maps made: two ptrs.
 *
 *   MOVE_SHIFT 0..7
 *       0           4
 *     0 │ TO        │ FROM      │
 */
export const MOVE_TO: At<u32> = 0;
export const MOVE_FROM: At<u32> = 4;
export const MOVE_SHIFT: u32 = 3;
