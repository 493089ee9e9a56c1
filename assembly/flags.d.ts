/** Build switches: integer constants that `asc --use NAME=VALUE` supplies (asconfig.json), folded at compile time. */

/** 1: shared memory, area locks and atomic totals. */
declare const COCO_THREADS: i32;
/** 1: the kernel's list algorithm in place of the bitmaps. */
declare const COCO_REFERENCE: i32;
/** 1: the slot benchmarks take slots from the bitmaps alone (bench builds only). */
declare const COCO_BARE: i32;
/** 1: the copies, slots and conversions tell the audit what they do (build engine.audit only). */
declare const COCO_AUDIT: i32;
