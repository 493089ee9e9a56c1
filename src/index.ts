/** coco-dma: a DMA engine for confidential-VM work. See README.md. */
export { formatBytes, parseBytes } from "./bytes.ts";
export { CipherUnavailable, loadCipher, type MemoryCipher } from "./coco/ciphertext.ts";
export type {
	CoherentAllocation,
	CoherentBuffer,
	CoherentFree,
	CoherentRefusal,
	CoherentRequest,
	Hazard,
	HazardName,
} from "./coco/coherent-types.ts";
export { type Conversion, PageConverter, type StrayRead } from "./coco/convert.ts";
export { GuestDevice, type GuestDeviceOptions } from "./coco/device.ts";
export { type Explanation, explain, exposes, type Readers, type Sight } from "./coco/explain.ts";
export { GrowingPools, type Growth, type PoolMemory } from "./coco/growing.ts";
export { Guest, type GuestOptions, type GuestTick } from "./coco/guest.ts";
export { type OfferConnection, type OfferFlags, type OfferTrust, offerFlags, trustOfOffer } from "./coco/offer.ts";
export { type DeviceView, Parties, type PartyView } from "./coco/parties.ts";
export {
	type ConversionStep,
	PLATFORMS,
	type Platform,
	type PlatformName,
	platformNamed,
} from "./coco/platform.ts";
export type { GuestPool, GuestPoolOptions, PoolKind, PoolNeed } from "./coco/pools.ts";
export { KERNELS, type Kernel, type KernelName, kernelNamed } from "./coco/rules.ts";
export type { MapRequest, PredicateStep } from "./coco/steps.ts";
export {
	DeviceTrust,
	type DeviceTrustOptions,
	type Evidence,
	type TdispFault,
	TdispState,
	type TdispStep,
	type Verdict,
} from "./coco/tdisp.ts";
export { TrustError, type TrustStatus } from "./coco/trust-error.ts";
export {
	AccessFault,
	type AccessResult,
	type PartyName,
	type Violation,
	type ViolationName,
} from "./coco/violations.ts";
export { Device, type DeviceCounters, type DeviceHolds, type Segment } from "./dma/device.ts";
export type { DeviceOptions } from "./dma/options.ts";
export { Engine, type EngineHandle, type Snapshot } from "./engine.ts";
export { type BlockLimits, PageAllocator, PageError } from "./memory/allocator.ts";
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
