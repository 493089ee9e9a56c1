/** `coco-dma/node`: what needs Node: policies from files. */
export { InputError } from "../input-error.ts";
export { loadPolicy } from "../node/policy-file.ts";
