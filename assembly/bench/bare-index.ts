/** The slot loops on bare bitmaps (COCO_BARE=1), with just what sets a pool up: nothing else shares their functions. */
export { deviceAdd, deviceSet, deviceSet64 } from "../dma/device";
export { attach, devicePtr, poolCreate, poolPtr, ramAddRegion, scratchTake } from "../index";
export { contextInit } from "../memory/context";
export { ramSeal } from "../memory/pages";
export { slotsFail, slotsFragment, slotsOddPairs, slotsPrime, slotsRun } from "./slots";
