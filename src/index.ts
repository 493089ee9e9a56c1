/** coco-dma: a DMA engine for confidential-VM work. See README.md. */
export { Actor, Audit, type Label, type LabelTotals, Mutation } from "./audit/audit.ts";
export type { AuditEvent, EventKind } from "./audit/events.ts";
export { formatBytes, parseBytes } from "./bytes.ts";
export type { GuestDeviceOptions } from "./coco/guest/device.ts";
export { GuestDevice } from "./coco/guest/device.ts";
export { type Explanation, explain, exposes, type Readers, type Sight } from "./coco/guest/explain.ts";
export { Guest, type GuestOptions, type GuestTick } from "./coco/guest/guest.ts";
export type { MapRequest, PredicateStep } from "./coco/guest/steps.ts";
export type {
	CoherentAllocation,
	CoherentBuffer,
	CoherentFree,
	CoherentRefusal,
	CoherentRequest,
} from "./coco/memory/coherent.ts";
export { GrowingPools, type Growth, type PoolMemory } from "./coco/memory/growing.ts";
export type { Hazard, HazardName } from "./coco/memory/hazard.ts";
export type { GuestPool } from "./coco/memory/pools.ts";
export { CipherUnavailable, loadCipher, type MemoryCipher } from "./coco/platform/ciphertext.ts";
export { type Conversion, PageConverter, type StrayRead } from "./coco/platform/convert.ts";
export { type DeviceView, Parties, type PartyView } from "./coco/platform/parties.ts";
export {
	type ConversionStep,
	PLATFORMS,
	type Platform,
	type PlatformName,
	platformNamed,
} from "./coco/platform/platform.ts";
export {
	AccessFault,
	type AccessResult,
	type PartyName,
	type Violation,
	type ViolationName,
} from "./coco/platform/violations.ts";
export { KERNELS, type Kernel, type KernelName, kernelNamed } from "./coco/rules/kernel.ts";
export {
	type Acceptance,
	KernelCrash,
	type Mechanism,
	type Policy,
	type PolicyPredicate,
	type PredicateInput,
	type PredicateValues,
} from "./coco/rules/policy.ts";
export type { GuestPoolOptions, PoolFacts, PoolKind, PoolMatcher, PoolNeed } from "./coco/rules/pool.ts";
export { TrustError, type TrustStatus } from "./coco/trust/error.ts";
export {
	type OfferConnection,
	type OfferFlags,
	type OfferTrust,
	offerFlags,
	trustOfOffer,
} from "./coco/trust/offer.ts";
export {
	DeviceTrust,
	type DeviceTrustOptions,
	type Evidence,
	type EvidenceDecision,
	type TdispFault,
	TdispState,
	type TdispStep,
	tdispStateName,
} from "./coco/trust/tdisp.ts";
export { Device, type DeviceCounters, type DeviceHolds, type Segment } from "./dma/device.ts";
export type { DeviceOptions } from "./dma/options.ts";
export { Engine, type EngineHandle, type Snapshot } from "./engine.ts";
export { InputError } from "./input-error.ts";
export type { ChannelClaim } from "./leaks/channels.ts";
export type { Finding, Occurrence } from "./leaks/findings.ts";
export {
	type ByteHistory,
	type HistoryOptions,
	type HistoryRole,
	type HistoryStep,
	historyOf,
} from "./leaks/history.ts";
export { type DeviceNames, historyText } from "./leaks/history-text.ts";
export { LeakMonitor, type LeakMonitorOptions, type PropertyReport } from "./leaks/monitor.ts";
export { PROPERTIES, type Property, type PropertyKind } from "./leaks/properties.ts";
export { type BlockLimits, PageAllocator, PageError } from "./memory/allocator.ts";
export { PageState, Ram, RangeState, type Region } from "./memory/ram.ts";
export { loadPolicy } from "./node/policy-file.ts";
export { acceptedIn, acceptedInNone, everyoneIn, kernelChoice } from "./policy/choice.ts";
export { MODIFIERS } from "./policy/modifiers.ts";
export { parsePolicy } from "./policy/parse.ts";
export { PRESETS } from "./policy/presets.ts";
export { type Place, SCENARIOS, type Scenario, scenarioNamed } from "./policy/scenarios.ts";
export type { Modifier, PolicySetup } from "./policy/setup.ts";
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
export type { Cell, CellPart } from "./study/cell.ts";
export { allPolicies, type Matrix, type MatrixOptions, type PolicyHeader, runMatrix } from "./study/matrix.ts";
export { makeStage, type Stage, type StageOptions } from "./study/stage.ts";
export { type AreaState, Pool, type PoolFailures, type PoolOptions } from "./swiotlb/pool.ts";
export {
	type PoolSize,
	parseSwiotlbOption,
	poolSize,
	type SizingOptions,
	type SwiotlbOption,
} from "./swiotlb/sizing.ts";
export { Connections, type EventConnection, type MessageConnection } from "./synic/connections.ts";
export { GuestSynic, type ReceivedMessage, type SynicRegisters } from "./synic/guest.ts";
export { GuestCalls } from "./synic/guest-calls.ts";
export type { GuestPages } from "./synic/guest-pages.ts";
export { CallCode, controlWord, encodePost, encodeSignal } from "./synic/hypercall.ts";
export type { Interrupt, Party } from "./synic/interrupts.ts";
export { type Hypercall, type HypercallReport, type MachineOptions, SynicMachine } from "./synic/machine.ts";
export type { Isolation, Path, SynicPlatform } from "./synic/modes.ts";
export type { MessagePort } from "./synic/port.ts";
export { Msr, SintBit, sintMsr, VMBUS_SINT, VMBUS_VECTOR } from "./synic/registers.ts";
export { HvStatus, hvStatusName } from "./synic/status.ts";
export type { Synic } from "./synic/synic.ts";
export { Attr, Direction, type DmaAddr, type Gpa } from "./types.ts";
export type { Decoded, DecodedField } from "./vmbus/decode/decoded.ts";
export { describeBytes, describeMessage, describeSlot } from "./vmbus/decode/message.ts";
export { describePacket } from "./vmbus/decode/packet.ts";
export { type CapturedBytes, pcapng } from "./vmbus/decode/pcapng.ts";
export { ECHO, EchoCommand, EchoDevice, type EchoOptions, EchoStatus, type EchoTurn } from "./vmbus/devices/echo.ts";
export type { GuestChannel } from "./vmbus/guest/channel.ts";
export { type GuestBuffer, VmbusGuest } from "./vmbus/guest/guest.ts";
export { EnginePages } from "./vmbus/guest/pages.ts";
export type { ReceivedPacket } from "./vmbus/guest/traffic.ts";
export type {
	ConfidentialDiscovery,
	DriverPlan,
	GuestBehaviour,
	GuestCommand,
	GuestPorts,
	GuestStatus,
	OpenOptions,
	VmbusGuestOptions,
} from "./vmbus/guest/types.ts";
export { type RelayAction, type RelayOptions, VmbusRelay } from "./vmbus/relay/relay.ts";
export type { Action, Completion, OpenAction, SendAction } from "./vmbus/server/actions.ts";
export type { ServerConfig } from "./vmbus/server/config.ts";
export { type MemoryView, pagesView, readRanges, ringPagesOf, writeRanges } from "./vmbus/server/memory-view.ts";
export type { OfferOptions, OfferRefusal } from "./vmbus/server/offers.ts";
export { type Post, VmbusServer } from "./vmbus/server/server.ts";
export type { SystemEvent } from "./vmbus/system/events.ts";
export type { SystemOptions } from "./vmbus/system/options.ts";
export { VmbusSystem } from "./vmbus/system/system.ts";
export { DecodeError, type DecodeRules, decodeMessage, encodeMessage } from "./vmbus/wire/codec.ts";
export { DeviceType } from "./vmbus/wire/guid.ts";
export { type Message, type MessageOf, MessageType } from "./vmbus/wire/messages.ts";
export { ConnectionId, Feature, OfferFlag, Version, versionName } from "./vmbus/wire/versions.ts";
export { type Build, type EngineExports, Instance } from "./wasm.ts";
