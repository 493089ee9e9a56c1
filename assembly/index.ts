/**
 * The ABI of the DMA engine: every export, and nothing else; that of the rings is rings.ts. Addresses are f64 (whole
 * numbers below 2^52), sizes, flags and numbers i32; a result below 0 is a status (layout/status.ts). An instance works on
 * one context: contextInit or attach comes first, then the regions, then ramSeal, then pools and devices.
 */
export {
	deviceMaxMapping,
	mapSingle,
	swiotlbSlots,
	syncForCpu,
	syncForDevice,
	unmapSingle,
} from "./dma/abi";
export {
	deviceAdd,
	deviceAt as devicePtr,
	deviceBounced,
	deviceResetCounters,
	deviceSet,
	deviceSet64,
	deviceSetPrivatePool,
} from "./dma/device";
export { dmaMapSg, dmaUnmapSg } from "./dma/scatter";
export { swiotlbAlloc, swiotlbTblMap, swiotlbTblUnmap } from "./dma/tbl";
export {
	attach,
	ramAddRegion,
	ramFillWith,
	ramPageState,
	ramPtr,
	ramRangeState,
	ramReadTo,
	ramWriteFrom,
} from "./memory/abi";
export { contextInit, contextUsedBytes, ramPages, takeBlock as scratchTake } from "./memory/context";
export { allowBlocking } from "./memory/lock";
export { pagesInState, ramSeal } from "./memory/pages";
export { regionMove } from "./memory/regions";
export { replayRun } from "./replay/run";
export {
	poolCreate,
	poolCreateNext,
	poolCreateTransient,
	poolFreeRun,
	poolSlotList,
	ramConvert,
} from "./swiotlb/abi";
export { poolAt as poolPtr, poolResetHiwater, poolsMoved } from "./swiotlb/pool";
export { retiredTake } from "./swiotlb/transient";
