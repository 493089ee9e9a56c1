/** `coco-dma/vmbus`: VMBus and Confidential VMBus: messages, the guest, the server, the relay, devices, and a machine of them. */
export type { Decoded, DecodedField } from "../vmbus/decode/decoded.ts";
export { describeBytes, describeMessage, describeSlot } from "../vmbus/decode/message.ts";
export { describePacket } from "../vmbus/decode/packet.ts";
export { type CapturedBytes, pcapng } from "../vmbus/decode/pcapng.ts";
export { ECHO, EchoCommand, EchoDevice, type EchoOptions, EchoStatus, type EchoTurn } from "../vmbus/devices/echo.ts";
export type {
	CallbackMode,
	GuestChannel,
	GuestChannelState,
	OpenOptions,
	ReceivedPacket,
	RingMemory,
} from "../vmbus/guest/channel.ts";
export { type GuestBuffer, VmbusGuest } from "../vmbus/guest/guest.ts";
export type {
	BufferMemory,
	ConfidentialDiscovery,
	DriverPlan,
	GuestBehaviour,
	GuestCommand,
	GuestPorts,
	GuestStatus,
	VmbusGuestOptions,
} from "../vmbus/guest/options.ts";
export { EnginePages } from "../vmbus/guest/pages.ts";
export { type RelayAction, type RelayOptions, VmbusRelay } from "../vmbus/relay/relay.ts";
export type { SavedRelay } from "../vmbus/relay/save.ts";
export type { OpenAction, Rejection, SendAction, ServerAction, ServerCompletion } from "../vmbus/server/actions.ts";
export type { ServerConfig } from "../vmbus/server/config.ts";
export {
	type MemoryRefusal,
	type MemoryView,
	pagesView,
	readRanges,
	ringPagesOf,
	writeRanges,
} from "../vmbus/server/memory-view.ts";
export type { OfferOptions, OfferRefusal } from "../vmbus/server/offers.ts";
export type { SavedServer } from "../vmbus/server/save.ts";
export { type ServerPost, VmbusServer } from "../vmbus/server/server.ts";
export type {
	ContactRequest,
	MessageTarget,
	Offer,
	OpenRequest,
	PageKind,
	ServerConnection,
	ServerGpadl,
} from "../vmbus/server/types.ts";
export type {
	CallEvent,
	FlagEvent,
	PacketEvent,
	PagesEvent,
	RegisterEvent,
	ServedEvent,
	SystemEvent,
} from "../vmbus/system/events.ts";
export type { SystemOptions } from "../vmbus/system/options.ts";
export type { PageRun } from "../vmbus/system/pages.ts";
export { VmbusSystem } from "../vmbus/system/system.ts";
export { DecodeError, type DecodeRules, decodeMessage, encodeMessage } from "../vmbus/wire/codec.ts";
export { DeviceType } from "../vmbus/wire/guid.ts";
export { type Message, type MessageOf, MessageType, type Sender } from "../vmbus/wire/messages.ts";
export { ConnectionId, Feature, OfferFlag, Version, versionName } from "../vmbus/wire/versions.ts";
