/** `coco-dma/verify`: recordings of real kernels, replayed until the first answer that differs. */
export { InputError } from "../input-error.ts";
export type { Source } from "../source.ts";
export type { Divergence, Unsupported, VerifyResult } from "../verify/result.ts";
export { type VerifyOptions, verifyRecording } from "../verify/verify.ts";
export type { TranscriptHost } from "../verify/vmbus/vmbus.ts";
