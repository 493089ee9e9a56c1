/**
 * Channel messages of VMBus, all in one table: what codec, decoder and dissector know of a message stands here.
 * A payload is an 8-byte header {u32 type; u32 padding 0} and the body, in one SynIC message, little-endian.
 * Sources: Linux 6.12 include/linux/hyperv.h; OpenVMM vmbus_core/src/protocol.rs (types 18 to 20 and 25 to 29).
 */
import type { Gpa } from "../../types.ts";
import { USER_DATA_BYTES } from "./values.ts";
import { Feature, Version } from "./versions.ts";

/** Type and padding (bytes). */
export const HEADER_BYTES = 8;
/** SynIC message type of every channel message. */
export const SYNIC_MESSAGE_TYPE = 1;

/** Who sends a message. */
export type Sender = "guest" | "server";

/**
 * What a field holds: unsigned numbers; `gpa`: u64 below 2^52 as a number; `gpaPair`: two of them; `guid`: 16 bytes as text;
 * `bytes120`; `quadwords`: u64s up to the end of the payload, as bigints.
 */
export type FieldKind = keyof FieldValues;
interface FieldValues {
	u8: number;
	u16: number;
	u32: number;
	gpa: Gpa;
	gpaPair: readonly [Gpa, Gpa];
	guid: string;
	bytes120: Uint8Array;
	quadwords: readonly bigint[];
}

/** Bytes of a field; of one quadword for `quadwords`. */
export const FIELD_BYTES: Readonly<Record<FieldKind, number>> = {
	u8: 1,
	u16: 2,
	u32: 4,
	gpa: 8,
	gpaPair: 16,
	guid: 16,
	bytes120: USER_DATA_BYTES,
	quadwords: 8,
};

export interface FieldSpec {
	/** Offset from the start of the payload (bytes). */
	readonly at: number;
	readonly kind: FieldKind;
	/** The field is there only if the message's own `version` is at least this, */
	readonly from?: number;
	/** and below this. It is absent otherwise. */
	readonly below?: number;
}
type Fields = Readonly<Record<string, FieldSpec>>;

/** Fields at the end of a longer form: all there, or none. */
export interface Extension {
	/** Size of the message that has them. */
	readonly bytes: number;
	readonly fields: Fields;
	/** The lowest version of the connection that has the form, when the receiver knows it. */
	readonly minVersion: number;
	/** The form needs one of these features, when the receiver knows them. */
	readonly features?: number;
	/** The form is told by these bits of the message's own field, */
	readonly flags?: { readonly field: string; readonly bits: number };
	/** and a shorter message with the bits set is malformed. */
	readonly required?: boolean;
}

/** The message that answers a request. */
interface Answer {
	/** Its name in the table. */
	readonly by: string;
	/** The fields of the request that it repeats: by these a request is told from others of its kind. */
	readonly repeats: readonly string[];
}

export interface MessageSpec {
	readonly type: number;
	/** The name on the wire, as Linux has it without CHANNELMSG_. */
	readonly wire: string;
	readonly from: Sender;
	/** Size of the message, or the least size that a parser takes. */
	readonly bytes: number;
	/** Lowest version of the connection; 0: also without one. */
	readonly minVersion: number;
	/** Feature that must have been negotiated. */
	readonly feature?: number;
	readonly fields: Fields;
	readonly extensions: readonly Extension[];
	readonly answer?: Answer;
}

const u8 = (at: number) => ({ at, kind: "u8" }) as const;
const u16 = (at: number) => ({ at, kind: "u16" }) as const;
const u32 = (at: number) => ({ at, kind: "u32" }) as const;
const guid = (at: number) => ({ at, kind: "guid" }) as const;
const gpaPair = (at: number) => ({ at, kind: "gpaPair" }) as const;
const bytes120 = (at: number) => ({ at, kind: "bytes120" }) as const;
const quadwords = (at: number) => ({ at, kind: "quadwords" }) as const;
const relid = u32(8);

/** Every message, by name. */
export const MESSAGES = {
	OfferChannel: {
		type: 1,
		wire: "OFFERCHANNEL",
		from: "server",
		bytes: 196,
		minVersion: Version.V0_13,
		fields: {
			interfaceId: guid(8),
			instanceId: guid(24),
			flags: u16(56),
			mmioMegabytes: u16(58),
			userData: bytes120(60),
			subChannelIndex: u16(180),
			mmioMegabytesOptional: u16(182),
			relid: u32(184),
			monitorId: u8(188),
			monitorAllocated: u8(189),
			dedicatedInterrupt: u16(190),
			connectionId: u32(192),
		},
		extensions: [],
	},
	RescindChannelOffer: { ...plain(2, "RESCIND_CHANNELOFFER", "server", 12, Version.V0_13), fields: { relid } },
	RequestOffers: {
		...plain(3, "REQUESTOFFERS", "guest", 8, Version.V0_13),
		fields: {},
		answer: { by: "AllOffersDelivered", repeats: [] },
	},
	AllOffersDelivered: { ...plain(4, "ALLOFFERS_DELIVERED", "server", 8, Version.V0_13), fields: {} },
	OpenChannel: {
		type: 5,
		wire: "OPENCHANNEL",
		from: "guest",
		bytes: 148,
		minVersion: Version.V0_13,
		fields: {
			relid,
			openId: u32(12),
			ringGpadl: u32(16),
			targetVp: u32(20),
			downstreamPage: u32(24),
			userData: bytes120(28),
		},
		extensions: [
			{
				bytes: 156,
				minVersion: Version.V6_0,
				features: Feature.GuestSpecifiedSignalParameters | Feature.ChannelInterruptRedirection,
				fields: { connectionId: u32(148), eventFlag: u16(152), openFlags: u16(154) },
			},
		],
		answer: { by: "OpenChannelResult", repeats: ["relid", "openId"] },
	},
	OpenChannelResult: {
		...plain(6, "OPENCHANNEL_RESULT", "server", 20, Version.V0_13),
		fields: { relid, openId: u32(12), status: u32(16) },
	},
	CloseChannel: { ...plain(7, "CLOSECHANNEL", "guest", 12, Version.V0_13), fields: { relid } },
	GpadlHeader: {
		...plain(8, "GPADL_HEADER", "guest", 20, Version.V0_13),
		fields: { relid, gpadl: u32(12), rangeBytes: u16(16), rangeCount: u16(18), ranges: quadwords(20) },
		answer: { by: "GpadlCreated", repeats: ["relid", "gpadl"] },
	},
	GpadlBody: {
		...plain(9, "GPADL_BODY", "guest", 16, Version.V0_13),
		fields: { messageNumber: u32(8), gpadl: u32(12), ranges: quadwords(16) },
	},
	GpadlCreated: {
		...plain(10, "GPADL_CREATED", "server", 20, Version.V0_13),
		fields: { relid, gpadl: u32(12), status: u32(16) },
	},
	GpadlTeardown: {
		...plain(11, "GPADL_TEARDOWN", "guest", 16, Version.V0_13),
		fields: { relid, gpadl: u32(12) },
		answer: { by: "GpadlTorndown", repeats: ["gpadl"] },
	},
	GpadlTorndown: { ...plain(12, "GPADL_TORNDOWN", "server", 12, Version.V0_13), fields: { gpadl: u32(8) } },
	RelidReleased: { ...plain(13, "RELID_RELEASED", "guest", 12, Version.V0_13), fields: { relid } },
	InitiateContact: {
		type: 14,
		wire: "INITIATE_CONTACT",
		from: "guest",
		bytes: 40,
		minVersion: 0,
		fields: {
			version: u32(8),
			targetVp: u32(12),
			interruptPage: { at: 16, kind: "gpa", below: Version.V5_0 },
			sint: { at: 16, kind: "u8", from: Version.V5_0 },
			vtl: { at: 17, kind: "u8", from: Version.V5_0 },
			featureFlags: { at: 20, kind: "u32", from: Version.V6_0 },
			monitorPages: gpaPair(24),
		},
		extensions: [
			{
				bytes: 56,
				minVersion: 0,
				flags: { field: "featureFlags", bits: Feature.ClientId },
				required: true,
				fields: { clientId: guid(40) },
			},
		],
		answer: { by: "VersionResponse", repeats: [] },
	},
	VersionResponse: {
		type: 15,
		wire: "VERSION_RESPONSE",
		from: "server",
		bytes: 16,
		minVersion: 0,
		fields: {
			supported: u8(8),
			connectionState: u8(9),
			/** The connection id of the guest's later messages (from 5.0), or the version selected. */
			connectionIdOrVersion: u32(12),
		},
		extensions: [
			{ bytes: 20, minVersion: Version.V6_0, fields: { featureFlags: u32(16) } },
			{
				bytes: 40,
				minVersion: Version.V6_0,
				flags: { field: "featureFlags", bits: Feature.ServerSpecifiedMonitorPages },
				fields: { monitorPages: gpaPair(24) },
			},
		],
	},
	Unload: {
		...plain(16, "UNLOAD", "guest", 8, Version.V0_13),
		fields: {},
		answer: { by: "UnloadResponse", repeats: [] },
	},
	UnloadResponse: { ...plain(17, "UNLOAD_RESPONSE", "server", 8, Version.V1_1), fields: {} },
	OpenReservedChannel: {
		...plain(18, "OPEN_RESERVED_CHANNEL", "guest", 28, Version.V4_0),
		fields: { relid, targetVp: u32(12), sint: u32(16), ringGpadl: u32(20), downstreamPage: u32(24) },
		answer: { by: "OpenChannelResult", repeats: ["relid"] },
	},
	CloseReservedChannel: {
		...plain(19, "CLOSE_RESERVED_CHANNEL", "guest", 20, 0),
		fields: { relid, targetVp: u32(12), sint: u32(16) },
		answer: { by: "CloseReservedResponse", repeats: ["relid"] },
	},
	CloseReservedResponse: { ...plain(20, "CLOSE_RESERVED_RESPONSE", "server", 12, Version.V4_0), fields: { relid } },
	TlConnectRequest: {
		type: 21,
		wire: "TL_CONNECT_REQUEST",
		from: "guest",
		bytes: 40,
		minVersion: Version.V4_0,
		fields: { endpointId: guid(8), serviceId: guid(24) },
		extensions: [{ bytes: 56, minVersion: Version.V5_2, fields: { siloId: guid(40) } }],
		// only a failure is answered: success is an offer
		answer: { by: "TlConnectResult", repeats: ["endpointId", "serviceId"] },
	},
	ModifyChannel: {
		...plain(22, "MODIFYCHANNEL", "guest", 16, Version.V4_1),
		fields: { relid, targetVp: u32(12) },
		answer: { by: "ModifyChannelResponse", repeats: ["relid"] },
	},
	TlConnectResult: {
		...plain(23, "TL_CONNECT_RESULT", "server", 44, Version.V4_1),
		fields: { endpointId: guid(8), serviceId: guid(24), status: u32(40) },
	},
	ModifyChannelResponse: {
		...plain(24, "MODIFYCHANNEL_RESPONSE", "server", 16, Version.V5_3),
		fields: { relid, status: u32(12) },
	},
	ModifyConnection: {
		...plain(25, "MODIFY_CONNECTION", "guest", 24, Version.V6_0),
		feature: Feature.ModifyConnection,
		fields: { monitorPages: gpaPair(8) },
		answer: { by: "ModifyConnectionResponse", repeats: [] },
	},
	ModifyConnectionResponse: {
		...plain(26, "MODIFY_CONNECTION_RESPONSE", "server", 9, Version.V6_0),
		feature: Feature.ModifyConnection,
		fields: { connectionState: u8(8) },
	},
	Pause: {
		...plain(27, "PAUSE", "guest", 8, Version.V6_0),
		feature: Feature.PauseResume,
		fields: {},
		answer: { by: "PauseResponse", repeats: [] },
	},
	PauseResponse: {
		...plain(28, "PAUSE_RESPONSE", "server", 8, Version.V6_0),
		feature: Feature.PauseResume,
		fields: {},
	},
	Resume: { ...plain(29, "RESUME", "guest", 8, Version.V6_0), feature: Feature.PauseResume, fields: {} },
} as const satisfies Record<string, MessageSpec>;

/** A message of one form. */
function plain<T extends number, S extends Sender>(type: T, wire: string, from: S, bytes: number, minVersion: number) {
	return { type, wire, from, bytes, minVersion, extensions: [] } as const;
}

type MessageName = keyof typeof MESSAGES;

/** Message types by name. */
export const MessageType = Object.fromEntries(Object.entries(MESSAGES).map(([name, { type }]) => [name, type])) as {
	readonly [N in MessageName]: (typeof MESSAGES)[N]["type"];
};

type Value<S> = S extends { readonly kind: infer K extends FieldKind } ? FieldValues[K] : never;
/** Fields that only some versions of the message have. */
type Conditional = { readonly from: number } | { readonly below: number };
type Body<F> = {
	-readonly [K in keyof F as F[K] extends Conditional ? never : K]: Value<F[K]>;
} & {
	-readonly [K in keyof F as F[K] extends Conditional ? K : never]?: Value<F[K]>;
};
type ExtensionFields<E> = E extends readonly [infer First, ...infer Rest]
	? (First extends { readonly fields: infer F } ? { -readonly [K in keyof F]?: Value<F[K]> } : unknown) &
			ExtensionFields<Rest>
	: unknown;
type Flat<T> = { [K in keyof T]: T[K] };

/** The message of that name: `type`, and its fields as in the table; those of longer forms are optional. */
export type MessageOf<N extends MessageName> = N extends MessageName
	? Flat<
			{ type: (typeof MESSAGES)[N]["type"] } & Body<(typeof MESSAGES)[N]["fields"]> &
				ExtensionFields<(typeof MESSAGES)[N]["extensions"]>
		>
	: never;

/** A channel message: a union told apart by `type`. */
export type Message = MessageOf<MessageName>;

/** Messages of the guest. */
export type GuestMessageName = {
	[N in MessageName]: (typeof MESSAGES)[N]["from"] extends "guest" ? N : never;
}[MessageName];

/** Messages that are answered. */
export type RequestName = {
	[N in MessageName]: (typeof MESSAGES)[N] extends { readonly answer: Answer } ? N : never;
}[MessageName];

/** The message that answers a request of that name. */
export type AnswerTo<N extends RequestName> = MessageOf<(typeof MESSAGES)[N]["answer"]["by"]>;

const BY_TYPE: readonly (MessageSpec | undefined)[] = Object.values<MessageSpec>(MESSAGES).reduce<MessageSpec[]>(
	(list, spec) => {
		list[spec.type] = spec;
		return list;
	},
	[],
);

/** The table's row of a message type, or undefined. */
export function messageSpec(type: number): MessageSpec | undefined {
	return BY_TYPE[type];
}

function answerOf({ type }: MessageOf<RequestName>): Answer {
	return (BY_TYPE[type] as Required<MessageSpec>).answer;
}

/** The table's row of the message that answers a request. */
export function answerSpec(request: MessageOf<RequestName>): MessageSpec {
	return (MESSAGES as Readonly<Record<string, MessageSpec>>)[answerOf(request).by] as MessageSpec;
}

/** Whether a message answers a request. */
export function isAnswer(message: Message, request: MessageOf<RequestName>): boolean {
	const given: Readonly<Record<string, unknown>> = message;
	const asked: Readonly<Record<string, unknown>> = request;
	if (message.type !== answerSpec(request).type) return false;
	return answerOf(request).repeats.every((field) => given[field] === asked[field]);
}

/** Whether connections of a version have a message. */
export function hasMessage(version: number, name: MessageName): boolean {
	return version >= MESSAGES[name].minVersion;
}
