/** The server's state as plain data, and back: a saved state may come from anywhere, so all of it is checked. */
import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import type { GpaRange } from "../../ring/packet.ts";
import { MAX_CONNECTION_ID } from "../../synic/connections.ts";
import { MAX_MESSAGE_BYTES } from "../../synic/synic.ts";
import { DecodeError, decodeMessage } from "../wire/codec.ts";
import { isGuid } from "../wire/guid.ts";
import { MONITOR_IDS, USER_DATA_BYTES } from "../wire/values.ts";
import { Feature } from "../wire/versions.ts";
import type { ServerChannel, ServerCore } from "./core.ts";
import { areFlagsLegal, MAX_CHANNELS, sameChannel } from "./offers.ts";
import { areChannelsReleased } from "./release.ts";
import {
	bytes,
	flag,
	list,
	nullable,
	quadword,
	record,
	type Schema,
	type SchemaFields,
	text,
	variants,
	whole,
	wrong,
} from "./schema.ts";
import {
	type ChannelInfo,
	type ConnectionInfo,
	type ContactRequest,
	type GpadlState,
	isReleased,
	isRevoked,
	type MessageTarget,
	type Modifying,
	type NextStep,
	type Offer,
	type OpenRequest,
	type Reservation,
	reservationOf,
	type ServerChannelState,
	type ServerConnection,
} from "./types.ts";

const FORMAT = "coco-dma vmbus server 1";

/** A saved server. Its content is the business of this file. */
export interface SavedServer {
	readonly format: typeof FORMAT;
	readonly [field: string]: unknown;
}

/** Quadwords of one GPADL: what 16 bits of bytes can say. */
const GPADL_QUADWORDS = 8191;
/** Messages that may wait: one for each GPADL and more. */
const MAX_SAVED_OUTGOING = 2 ** 22;

const u8 = whole(0, 0xff);
const u16 = whole(0, 0xffff);
const u32 = whole(0, 0xffffffff);
const gpa = whole(0, 2 ** 52 - 1);
const guid = text<string>("a GUID", (value) => isGuid(value) && value === value.toLowerCase());
const relid = whole(1, MAX_CHANNELS);
const connectionId = whole(1, MAX_CONNECTION_ID);
const userData = bytes(USER_DATA_BYTES, USER_DATA_BYTES);

/** Two gpas. */
const gpas: Schema<readonly [number, number]> = {
	save: (value) => [...value],
	load: (value, path) => {
		const pair = list(gpa, 2).load(value, path);
		if (pair.length !== 2) throw wrong(path, "two gpas");
		return [pair[0] as number, pair[1] as number];
	},
};
const monitorPages: Schema<ContactRequest["monitorPages"]> = {
	save: (value) => (value === "invalid" ? value : nullable(gpas).save(value)),
	load: (value, path) => (value === "invalid" ? value : nullable(gpas).load(value, path)),
};

const monitor: Schema<Offer["monitorId"]> = {
	save: (value) => value,
	load: (value, path) => (value === "any" ? value : nullable(whole(0, MONITOR_IDS - 1)).load(value, path)),
};
const target = record<MessageTarget>({ vp: u32, sint: whole(0, 15) });
const offer = record<Offer>({
	interfaceId: guid,
	instanceId: guid,
	subChannelIndex: u16,
	flags: u16,
	mmioMegabytes: u16,
	mmioMegabytesOptional: u16,
	userData,
	order: u32,
	monitorId: monitor,
	dedicatedInterrupt: flag,
	relid: nullable(relid),
	connectionId: nullable(connectionId),
});
const info = record<ChannelInfo>({ relid, connectionId, monitorId: nullable(whole(0, MONITOR_IDS - 1)) });
const request = record<OpenRequest>({
	openId: u32,
	ringGpadl: u32,
	targetVp: u32,
	downstreamPage: u32,
	userData,
	signal: nullable(record<NonNullable<OpenRequest["signal"]>>({ connectionId: u32, eventFlag: u16 })),
	redirectInterrupt: flag,
});
const modifying = record<Modifying>({ pendingVp: nullable(u32) });
const opened = { request, reserved: nullable(record<Reservation>({ target, orphaned: flag })) };
const channelState = variants<ServerChannelState>({
	ClientReleased: {},
	Closed: {},
	Revoked: {},
	Reoffered: {},
	ClosingClientRelease: {},
	OpeningClientRelease: {},
	Opening: opened,
	Closing: opened,
	Open: { ...opened, modifying: nullable(modifying) },
	ClosingReopen: { ...opened, next: request },
});

interface SavedGpadl {
	readonly gpadl: number;
	readonly rangeCount: number;
	readonly quadwords: number;
	readonly received: bigint[];
	readonly ranges: readonly GpaRange[];
	readonly state: GpadlState;
}
const GPADL_STATES: readonly string[] = ["InProgress", "Offered", "OfferedTearingDown", "Accepted", "TearingDown"];
const range = record<GpaRange>({
	bytes: whole(1, 0xffffffff),
	offset: whole(0, PAGE_SIZE - 1),
	pfns: list(whole(0, 2 ** 40 - 1), GPADL_QUADWORDS),
});
const gpadl = record<SavedGpadl>({
	gpadl: u32,
	rangeCount: u16,
	quadwords: whole(0, GPADL_QUADWORDS),
	received: list(quadword, GPADL_QUADWORDS),
	ranges: list(range, GPADL_QUADWORDS),
	state: text<GpadlState>(`one of ${GPADL_STATES.join(", ")}`, (value) => GPADL_STATES.includes(value)),
});

const contact = record<ContactRequest>({
	version: u32,
	featureFlags: u32,
	targetVp: u32,
	interruptPage: nullable(gpa),
	monitorPages,
	clientId: nullable(guid),
	trusted: flag,
});
const connectionInfo = record<ConnectionInfo>({
	version: u32,
	features: u8,
	trusted: flag,
	interruptPage: nullable(gpa),
	monitorPages: nullable(gpas),
	serverMonitorPages: flag,
	clientId: nullable(guid),
	offersSent: flag,
	paused: flag,
	modifying: flag,
});
const next = variants<NextStep>({ Reset: {}, UnloadResponse: { respond: flag }, Contact: { request: contact } });
const connection = variants<ServerConnection>({
	Disconnected: {},
	Connecting: { info: connectionInfo, next: nullable(next) },
	Connected: { info: connectionInfo },
	Disconnecting: { version: u32, trusted: flag, next },
});

interface SavedChannel {
	readonly offerId: number;
	readonly offer: Offer;
	readonly state: ServerChannelState;
	readonly info: ChannelInfo | null;
	readonly gpadls: SavedGpadl[];
}
const OFFER_IDS = 2 ** 53 - 1;
const fields: SchemaFields<State> = {
	format: text<typeof FORMAT>(`"${FORMAT}"`, (value) => value === FORMAT),
	connection,
	targetVp: u32,
	nextOfferId: whole(1, OFFER_IDS),
	slotBusy: flag,
	outgoing: list(bytes(1, MAX_MESSAGE_BYTES), MAX_SAVED_OUTGOING),
	channels: list(
		record<SavedChannel>({
			offerId: whole(1, OFFER_IDS),
			offer,
			state: channelState,
			info: nullable(info),
			gpadls: list(gpadl, 2 ** 22),
		}),
		MAX_CHANNELS,
	),
};
interface State {
	readonly format: typeof FORMAT;
	readonly connection: ServerConnection;
	readonly targetVp: number;
	readonly nextOfferId: number;
	readonly slotBusy: boolean;
	readonly outgoing: Uint8Array[];
	readonly channels: SavedChannel[];
}
const state = record<State>(fields);

/** All of a server's state. */
export function saveCore(core: ServerCore): SavedServer {
	const channels = [...core.channels.values()].map((channel) => ({
		...channel,
		gpadls: [...channel.gpadls.values()],
	}));
	return state.save({ ...core, format: FORMAT, connection: core.connection, channels } as State) as SavedServer;
}

/** Fills a new server. @throws RangeError that names what is wrong */
export function restoreCore(core: ServerCore, saved: unknown): void {
	const loaded = state.load(saved, "saved");
	core.connection = loaded.connection;
	core.targetVp = loaded.targetVp;
	core.nextOfferId = loaded.nextOfferId;
	core.slotBusy = loaded.slotBusy;
	core.outgoing = loaded.outgoing;
	checkConnection(core);
	for (const [i, payload] of loaded.outgoing.entries()) {
		if (decodeMessage(payload, { direction: "server" }) instanceof DecodeError)
			throw wrong(`saved.outgoing[${i}]`, "a message of a server");
	}
	if (loaded.outgoing.length > 0 && !core.slotBusy && core.connected?.paused !== true)
		throw wrong("saved.outgoing", "nothing that waits without a reason");
	for (const [i, channel] of loaded.channels.entries()) addChannel(core, channel, `saved.channels[${i}]`);
	if (core.gpadlQuadwords > core.config.maxGpadlPages)
		throw wrong("saved.channels", `GPADLs of at most ${core.config.maxGpadlPages} pages`);
	const { connection: now } = core;
	if (now.name === "Disconnecting" && areChannelsReleased(core, now.next.name === "Reset"))
		throw wrong("saved.connection.name", "another state, for nothing is to be waited for");
}

function checkConnection({ connection: now, config }: ServerCore): void {
	const path = "saved.connection.info";
	if (!("info" in now)) return;
	const { version, features, trusted } = now.info;
	if (!config.versions.includes(version)) throw wrong(`${path}.version`, "a version that the server speaks");
	const most = config.features | (config.confidential && trusted ? Feature.ConfidentialChannels : 0);
	if ((features & ~most) !== 0) throw wrong(`${path}.features`, "features that the server grants");
}

function addChannel(core: ServerCore, saved: SavedChannel, path: string): void {
	const channel: ServerChannel = { ...saved, gpadls: new Map() };
	const { offerId, offer: mine, info: ids } = channel;
	if (offerId >= core.nextOfferId || core.channels.has(offerId)) throw wrong(`${path}.offerId`, "a number of its own");
	for (const other of core.channels.values())
		if (sameChannel(other.offer, mine)) throw wrong(`${path}.offer`, "a channel that is not there twice");
	if (!core.config.oldOfferFlags && !areFlagsLegal(mine.flags))
		throw wrong(`${path}.offer.flags`, "flag 0x2 with flag 0x4");
	if ((ids === null) !== isReleased(channel))
		throw wrong(`${path}.info`, "ids if and only if the guest has the channel");
	if (channel.state.name === "ClosingReopen" && channel.state.reserved?.orphaned === true)
		throw wrong(`${path}.state.reserved.orphaned`, "a guest that is there to open the channel again");
	const isKnown = core.connected?.offersSent === true || reservationOf(channel)?.orphaned === true;
	if (ids !== null && !isKnown) throw wrong(`${path}.state.name`, "a released channel, for no offers were sent");
	if (ids !== null) {
		if (core.byRelid.has(ids.relid)) throw wrong(`${path}.info.relid`, "a relid of its own");
		if (ids.monitorId !== null && core.monitorIds.has(ids.monitorId))
			throw wrong(`${path}.info.monitorId`, "a monitor id of its own");
		core.byRelid.set(ids.relid, channel);
		if (ids.monitorId !== null) core.monitorIds.add(ids.monitorId);
	}
	core.channels.set(offerId, channel);
	for (const [i, one] of saved.gpadls.entries()) addGpadl(core, channel, one, `${path}.gpadls[${i}]`);
}

function addGpadl(core: ServerCore, channel: ServerChannel, saved: SavedGpadl, path: string): void {
	const { gpadl: id, state: name, received, ranges, quadwords, rangeCount } = saved;
	if (channel.gpadls.has(id)) throw wrong(`${path}.gpadl`, "an id of its own");
	const possible = isReleased(channel)
		? ["OfferedTearingDown", "TearingDown"]
		: isRevoked(channel)
			? ["InProgress", "Accepted"]
			: ["InProgress", "Offered", "Accepted", "TearingDown"];
	if (!possible.includes(name))
		throw wrong(`${path}.state`, `one of ${possible.join(", ")} in this state of the channel`);
	const mine = { ...saved, offerId: channel.offerId };
	if (name === "InProgress") {
		if (ranges.length > 0 || received.length >= quadwords) throw wrong(`${path}.received`, "part of the ranges");
		if (core.incomplete.has(id)) throw wrong(`${path}.gpadl`, "an id of its own among those under way");
		core.incomplete.set(id, mine);
	} else {
		const pages = (one: GpaRange) => Math.ceil((one.offset + one.bytes) / PAGE_SIZE);
		const used = ranges.reduce((sum, { pfns }) => sum + 1 + pfns.length, 0);
		if (received.length > 0 || ranges.length !== rangeCount || rangeCount === 0 || used > quadwords)
			throw wrong(`${path}.ranges`, `${rangeCount} ranges in ${quadwords} quadwords`);
		if (ranges.some((one) => one.pfns.length !== pages(one)))
			throw wrong(`${path}.ranges`, "as many pages as bytes take");
	}
	channel.gpadls.set(id, mine);
	core.gpadlQuadwords += quadwords;
}
