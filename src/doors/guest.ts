/**
 * `coco-dma/guest`: a confidential guest over an engine: its platform, its kernel's rules, the trust in its devices, and who can
 * read what.
 */

export type { GuestDevice, GuestDeviceOptions } from "../coco/guest/device.ts";
export { type Explanation, explain, exposes, type Readers, type Sight } from "../coco/guest/explain.ts";
export { Guest, type GuestOptions, type GuestTick } from "../coco/guest/guest.ts";
export type { MapRequest, PredicateStep } from "../coco/guest/steps.ts";
export type { AtomicPools } from "../coco/memory/atomic.ts";
export type {
	CoherentAllocation,
	CoherentBuffer,
	CoherentFree,
	CoherentMemory,
	CoherentRefusal,
	CoherentRequest,
} from "../coco/memory/coherent.ts";
export { GrowingPools, type Growth, type PoolMemory } from "../coco/memory/growing.ts";
export type { Hazard, HazardName } from "../coco/memory/hazard.ts";
export type { GuestPool } from "../coco/memory/pools.ts";
export { CipherUnavailable, loadCipher, type MemoryCipher } from "../coco/platform/ciphertext.ts";
export { type Conversion, PageConverter, type StrayRead } from "../coco/platform/convert.ts";
export { type DeviceView, Parties, type PartyView } from "../coco/platform/parties.ts";
export {
	type ConversionStep,
	type EncryptionBit,
	PLATFORMS,
	type Platform,
	type PlatformName,
	platformNamed,
} from "../coco/platform/platform.ts";
export {
	AccessFault,
	type AccessResult,
	type PartyName,
	type Violation,
	type ViolationLog,
	type ViolationName,
} from "../coco/platform/violations.ts";
export {
	KERNELS,
	type Kernel,
	type KernelName,
	type KernelRule,
	type KernelRules,
	kernelNamed,
} from "../coco/rules/kernel.ts";
export type { GuestPoolOptions, PoolFacts, PoolKind, PoolMatcher, PoolNeed } from "../coco/rules/pool.ts";
export { TrustError, type TrustStatus } from "../coco/trust/error.ts";
export {
	type OfferConnection,
	type OfferFlags,
	type OfferTrust,
	offerFlags,
	trustOfOffer,
} from "../coco/trust/offer.ts";
export {
	DeviceTrust,
	type DeviceTrustOptions,
	type Evidence,
	type EvidenceDecision,
	type Holds,
	type TdispFault,
	type TdispRequest,
	TdispState,
	type TdispStep,
	tdispStateName,
} from "../coco/trust/tdisp.ts";
export { type BlockLimits, PageAllocator, PageError } from "../memory/allocator.ts";
