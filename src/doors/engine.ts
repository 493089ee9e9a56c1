/** `coco-dma`: the engine alone. A guest's RAM, its bounce pools and the devices that do DMA on it; no module of Node's. */
export { formatBytes, parseBytes } from "../bytes.ts";
export type { DmaApi, MappedSegment, Segment } from "../dma/api.ts";
export type { Device, DeviceCounters, DeviceHolds } from "../dma/device.ts";
export type { DeviceOptions } from "../dma/options.ts";
export {
	type BrokenRule,
	type KernelMessage,
	MapRefused,
	type Refusal,
	type RefusedRequest,
	type Remedy,
} from "../dma/refusal.ts";
export { Engine, type EngineHandle, type Snapshot } from "../engine.ts";
export { PageState, type Ram, RangeState, type Region } from "../memory/ram.ts";
export type { RamStretch } from "../memory/stretches.ts";
export type { EngineOptions } from "../setup.ts";
export { DmaError, type StatusName, statusName } from "../status.ts";
export type { AreaState, Pool, PoolFailures, PoolOptions } from "../swiotlb/pool.ts";
export {
	type PoolSize,
	parseSwiotlbOption,
	poolSize,
	type SizingOptions,
	type SwiotlbOption,
} from "../swiotlb/sizing.ts";
export { Attr, Direction, type DmaAddr, type Gpa } from "../types.ts";
export type { Build, EngineExports, EngineModule, Instance } from "../wasm.ts";
