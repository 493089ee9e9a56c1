/**
 * A compiled workload that the replay loop runs without leaving WASM: events over requests over scatter-gather entries.
 * An entry is layout/device.ts's SG entry with three more fields.
 */

/** Direction of a control entry; data entries take the request's. */
export const ENTRY_DIR: usize = 20;
/** Where in the device's store the entry's bytes are, from the store's start. */
export const ENTRY_STORE: usize = 24;

/** A request: u32 number of its first entry, then how many entries of each kind follow in this order. */
export const REQUEST_FIRST: usize = 0;
/** Control entries mapped before the data, one by one. */
export const REQUEST_BEFORE: usize = 4;
/** Data entries, mapped as one scatter-gather list. */
export const REQUEST_DATA: usize = 8;
/** Control entries mapped after the data. */
export const REQUEST_AFTER: usize = 12;
export const REQUEST_DIR: usize = 16;
export const REQUEST_CPU: usize = 20;
/** Written by the replay: OK once mapped, or the status that refused it. */
export const REQUEST_STATUS: usize = 24;
/** Attributes of the data's maps and unmaps. */
export const REQUEST_ATTRS: usize = 28;
export const REQUEST_BYTES: u32 = 32;

/** An event is a u32: request number times 2, plus 1 for its completion. */
export const EVENT_BYTES: u32 = 4;

/** What a replay does: bits of its `work` argument. */
export const WORK_DMA: u32 = 1;
/** The device moves the bytes between the mapped memory and its store. */
export const WORK_DEVICE: u32 = 2;
/** Fill with patterns and compare each delivery (needs both bits above). */
export const WORK_CHECK: u32 = 4;
