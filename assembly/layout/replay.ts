/**
 * A compiled workload that the replay loop runs without leaving WASM: events over requests over scatter-gather entries.
 * An entry is layout/device.ts's SG entry with three more fields.
 */

/** Where in its record a field of type T lies (bytes). */
type At<_T> = usize;

/**
 * The rest of an entry.
 *
 *   SG_BYTES 20..31
 *       0           4           8           12
 *    16 │           │ DIR       │ STORE     │           │
 */
/** Direction of a control entry; data entries take the request's. */
export const ENTRY_DIR: At<i32> = 20;
/** Where in the device's store the entry's bytes are, from the store's start. */
export const ENTRY_STORE: At<u32> = 24;

/**
 * A request: number of its first entry, then how many entries of each kind follow in this order.
 *
 *   REQUEST_BYTES 0..31
 *       0           4           8           12
 *     0 │ FIRST     │ BEFORE    │ DATA      │ AFTER     │
 *    16 │ DIR       │ CPU       │ STATUS    │ ATTRS     │
 */
export const REQUEST_FIRST: At<u32> = 0;
/** Control entries mapped before the data, one by one. */
export const REQUEST_BEFORE: At<u32> = 4;
/** Data entries, mapped as one scatter-gather list. */
export const REQUEST_DATA: At<u32> = 8;
/** Control entries mapped after the data. */
export const REQUEST_AFTER: At<u32> = 12;
export const REQUEST_DIR: At<i32> = 16;
export const REQUEST_CPU: At<u32> = 20;
/** Written by the replay: OK once mapped, or the status that refused it. */
export const REQUEST_STATUS: At<i32> = 24;
/** Attributes of the data's maps and unmaps. */
export const REQUEST_ATTRS: At<u32> = 28;
export const REQUEST_BYTES: u32 = 32;

/** An event is a u32: request number times 2, plus 1 for its completion. */
export const EVENT_BYTES: u32 = 4;

/** What a replay does: bits of its `work` argument. */
export const WORK_DMA: u32 = 1;
/** The device moves the bytes between the mapped memory and its store. */
export const WORK_DEVICE: u32 = 2;
/** Fill with patterns and compare each delivery (needs both bits above). */
export const WORK_CHECK: u32 = 4;
