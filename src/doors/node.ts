/** `coco-dma/node`: what needs Node: traces, recordings and policies from files, and runs in processes of their own. */
export { InputError } from "../input-error.ts";
export { readTraceFile, verifyFile } from "../node/input.ts";
export { loadPolicy } from "../node/policy-file.ts";
export { processRunner } from "../node/runner.ts";
