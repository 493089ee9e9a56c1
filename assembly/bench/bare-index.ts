/** The slot loops on bare bitmaps (COCO_BARE=1), with just what sets a pool up: nothing else shares their functions. */
export { deviceAdd, deviceAt as devicePtr, deviceSet, deviceSet64 } from "../dma/device";
export { attach, ramAddRegion } from "../memory/abi";
export { contextInit, takeBlock as scratchTake } from "../memory/context";
export { ramSeal } from "../memory/pages";
export { poolCreate } from "../swiotlb/abi";
export { poolAt as poolPtr } from "../swiotlb/pool";
export { slotsFail, slotsFragment, slotsOddPairs, slotsPrime, slotsRun } from "./slots";
