/** coco-dma: a DMA engine for confidential-VM work. See README.md. */
export { formatBytes, parseBytes } from "./bytes.ts";
export { Device, type DeviceCounters, type DeviceHolds, type Segment } from "./dma/device.ts";
export type { DeviceOptions } from "./dma/options.ts";
export { Engine, type EngineHandle, type Snapshot } from "./engine.ts";
export { PageState, Ram, RangeState, type Region } from "./memory/ram.ts";
export { Doorbell } from "./ring/doorbell.ts";
export {
	type GpaRange,
	multiPageRange,
	type Packet,
	PacketType,
	type Piece,
	pageArray,
	pageBuffers,
	type TransferRange,
} from "./ring/packet.ts";
export { RingPair, type RingPairHandle, type RingPairOptions } from "./ring/pair.ts";
export type { RingReader } from "./ring/reader.ts";
export type { RingWriter, SendOptions } from "./ring/writer.ts";
export type { EngineOptions } from "./setup.ts";
export { DmaError, type StatusName, statusName } from "./status.ts";
export { type AreaState, Pool, type PoolFailures, type PoolOptions } from "./swiotlb/pool.ts";
export {
	type PoolSize,
	parseSwiotlbOption,
	poolSize,
	type SizingOptions,
	type SwiotlbOption,
} from "./swiotlb/sizing.ts";
export { Attr, Direction, type DmaAddr, type Gpa, gpa } from "./types.ts";
export { type Build, type EngineExports, Instance } from "./wasm.ts";
