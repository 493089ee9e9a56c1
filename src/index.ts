/** coco-dma: a DMA engine for confidential-VM work. See README.md. */
export { Actor, Audit, type Label, type LabelTotals, Mutation } from "./audit/audit.ts";
export type { AuditEvent, EventKind } from "./audit/events.ts";
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
export { GuestDevice } from "./coco/device.ts";
export type { GuestDeviceOptions } from "./coco/device-options.ts";
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
export {
	type Acceptance,
	KernelCrash,
	type Mechanism,
	type Policy,
	type PolicyPredicate,
	type PredicateInput,
	type PredicateValues,
} from "./coco/policy.ts";
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
	tdispStateName,
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
export type { Cell, CellPart } from "./policy/cell.ts";
export { acceptedIn, acceptedInNone, everyoneIn, kernelChoice, type PoolChoice } from "./policy/choice.ts";
export { loadPolicy } from "./policy/load.ts";
export { allPolicies, type Matrix, type MatrixOptions, type PolicyHeader, runMatrix } from "./policy/matrix.ts";
export { MODIFIERS } from "./policy/modifiers.ts";
export { parsePolicy } from "./policy/parse.ts";
export { PRESETS } from "./policy/presets.ts";
export { type Place, SCENARIOS, type Scenario, scenarioNamed } from "./policy/scenarios.ts";
export type { Modifier, PolicySetup } from "./policy/setup.ts";
export { makeStage, type Stage, type StageOptions } from "./policy/stage.ts";
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
export { Attr, Direction, type DmaAddr, type Gpa, gpa } from "./types.ts";
export { DecodeError, type DecodeRules, decodeMessage, encodeMessage } from "./vmbus/codec.ts";
export { describeBytes, describeMessage, describeSlot } from "./vmbus/decode.ts";
export { describePacket } from "./vmbus/decode-packet.ts";
export type { Decoded, DecodedField } from "./vmbus/decoded.ts";
export { ECHO, EchoCommand, EchoDevice, type EchoOptions, EchoStatus, type EchoTurn } from "./vmbus/echo.ts";
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
export { DeviceType } from "./vmbus/guid.ts";
export { type Message, type MessageOf, MessageType } from "./vmbus/messages.ts";
export { type CapturedBytes, pcapng } from "./vmbus/pcapng.ts";
export type { Action, Completion, OpenAction, SendAction } from "./vmbus/server/actions.ts";
export type { ServerConfig } from "./vmbus/server/config.ts";
export { type MemoryView, pagesView, readRanges, ringPagesOf, writeRanges } from "./vmbus/server/memory-view.ts";
export type { OfferOptions, OfferRefusal } from "./vmbus/server/offers.ts";
export { type RelayAction, type RelayOptions, VmbusRelay } from "./vmbus/server/relay.ts";
export { type Post, VmbusServer } from "./vmbus/server/server.ts";
export type { SystemEvent } from "./vmbus/system/events.ts";
export type { SystemOptions } from "./vmbus/system/options.ts";
export { VmbusSystem } from "./vmbus/system/system.ts";
export { ConnectionId, Feature, OfferFlag, Version, versionName } from "./vmbus/versions.ts";
export { type Build, type EngineExports, Instance } from "./wasm.ts";
