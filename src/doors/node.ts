/** `coco-dma/node`: what needs Node: policies from files, runs in processes of their own. */
export { InputError } from "../input-error.ts";
export { loadPolicy } from "../node/policy-file.ts";
export { processRunner } from "../node/runner.ts";
