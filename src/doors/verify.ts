/** `coco-dma/verify`: recordings of real kernels, replayed until the first answer that differs. */
export type { VerifyResult } from "../verify/result.ts";
export { verifyFile } from "../verify/verify.ts";
