/** What a transcript's command lines ask of the guest. */

import { PAGE_SIZE } from "../../../assembly/layout/context.ts";
import * as layout from "../../../assembly/layout/ring.ts";
import { bytesOfHex } from "../../bytes.ts";
import type { Engine } from "../../engine.ts";
import { type GpaRange, PacketType } from "../../ring/packet.ts";
import { orThrow } from "../../status.ts";
import type { CallbackMode, GuestChannel, OpenOptions } from "../../vmbus/guest/channel.ts";
import type { VmbusGuest } from "../../vmbus/guest/guest.ts";
import type { DriverPlan, GuestStatus } from "../../vmbus/guest/options.ts";
import { readGuid } from "../../vmbus/wire/guid.ts";
import type { Hashes } from "../hashes.ts";
import type { Expected } from "./expect.ts";
import type { ReplayHost } from "./host.ts";
import type { LineArgs } from "./lines.ts";
import type { ReplayPages } from "./pages.ts";
import { payloadOf } from "./payload.ts";

const MAX_PAYLOAD_BYTES = 2 ** 19;
/** The recorder shows the first bytes of what a receive gave. */
const RECV_BYTES = 1000;

/** What the commands work on. */
export interface GuestReplay {
	readonly engine: Engine;
	readonly guest: VmbusGuest;
	readonly expected: Expected;
	readonly hashes: Hashes;
	readonly host: ReplayHost;
	readonly pages: ReplayPages;
	/** Number of each of the guest's own commands, in the order in which they were given. */
	readonly numbers: number[];
	/** Handles of GPADLs by the transcript's id: null for one that failed. */
	readonly buffers: (() => number | undefined)[];
	/** What the recorder's driver keeps of each channel's last open. */
	readonly kept: WeakMap<GuestChannel, KeptOptions>;
	/** Channels whose callback leaves the packets where they are. */
	readonly manual: Set<number>;
	driver: ((channel: GuestChannel) => DriverPlan | null) | null;
	/** ns */
	clock: number;
}

/** Options that the recorder's driver writes into a channel only where a line gives them; mode and latency it sets at every open. */
type KeptOptions = Pick<OpenOptions, "requests" | "maxPacketBytes">;

/** @param kept of the channel */
function openOptions(args: LineArgs, from: number, kept: KeptOptions = {}): OpenOptions {
	const option = (key: string) => {
		const text = args.option(key, from + 2);
		if (text !== undefined && !/^\d{1,9}$/.test(text)) throw args.error(key, "a whole number", text);
		return text === undefined ? undefined : Number(text);
	};
	const userData = args.option("ud", from + 2);
	if (userData !== undefined && !/^([0-9a-f]{2}){0,240}$/i.test(userData))
		throw args.error("ud", "bytes in hex", userData);
	const mode = args.option("mode", from + 2) ?? "batched";
	if (!["batched", "direct", "isr"].includes(mode)) throw args.error("mode", "direct or isr", mode);
	const maxPacketBytes = option("maxpkt") || kept.maxPacketBytes;
	return {
		sendPages: args.number(from, "send pages", 65535),
		receivePages: args.number(from + 1, "receive pages", 65535),
		requests: option("rq") || kept.requests || 0,
		mode: mode as CallbackMode,
		lowLatency: args.line.args.includes("lowlat", from + 2),
		...(maxPacketBytes === undefined ? {} : { maxPacketBytes }),
		...(userData === undefined ? {} : { userData: bytesOfHex(userData) }),
	};
}

/** The channel of a relid, also where the guest's table of relids has lost it. */
function channelOf(guest: VmbusGuest, relid: number): GuestChannel | undefined {
	for (const primary of guest.primaries)
		for (const channel of [primary, ...primary.subChannels]) if (channel.relid === relid) return channel;
	return undefined;
}

/** One ring of an open channel: its control words and its data. */
function ringView(engine: Engine, channel: GuestChannel | undefined, which: "out" | "in"): Uint8Array | null {
	if (channel?.ring == null) return null;
	const { gpa, pages, sendPages } = channel.ring;
	const [first, count] = which === "out" ? [0, sendPages] : [sendPages, pages - sendPages];
	return engine.ram.view(gpa + first * PAGE_SIZE, count * PAGE_SIZE);
}

const word = (ring: Uint8Array, at: number) =>
	new DataView(ring.buffer, ring.byteOffset, ring.length).getUint32(at, true);

/** Compares both rings as they are. @param tag "opened" or "now" */
export function compareRings({ engine, expected, guest, hashes }: GuestReplay, relid: number, tag: string): void {
	for (const which of ["out", "in"] as const) {
		const ring = ringView(engine, channelOf(guest, relid), which);
		if (ring === null) return;
		const hex = (at: number) => word(ring, at).toString(16);
		const words = [
			`w=${hex(layout.HEADER_WRITE_INDEX)}`,
			`r=${hex(layout.HEADER_READ_INDEX)}`,
			`mask=${hex(layout.HEADER_INTERRUPT_MASK)}`,
			`pend=${hex(layout.HEADER_PENDING_SEND)}`,
			`feat=${hex(layout.HEADER_FEATURES)}`,
		];
		const data = ring.subarray(PAGE_SIZE);
		expected.line1(
			"RING",
			`${relid} ${which} ${tag} ${words.join(" ")} size=${data.length.toString(16)} data=${hashes.sha256(data)}`,
		);
	}
}

/** Writes what the host wrote into a ring. */
export function hostRing({ engine, guest }: GuestReplay, args: LineArgs): void {
	const which = args.text(1, "ring");
	if (which !== "in" && which !== "out") throw args.error("ring", "in or out", which);
	const bytes = args.bytes(3, "bytes", 2 ** 27);
	const offset = args.hex(2, "offset");
	const ring = ringView(engine, channelOf(guest, args.number(0, "relid")), which);
	if (ring !== null && offset + bytes.length <= ring.length) ring.set(bytes, offset);
}

/** Runs a send and compares the packet that came of it. */
function sent(replay: GuestReplay, relid: number, send: () => GuestStatus): GuestStatus {
	const { engine, guest, expected } = replay;
	const before = ringView(engine, channelOf(guest, relid), "out");
	const at = before === null ? 0 : word(before, layout.HEADER_WRITE_INDEX);
	const status = send();
	const ring = ringView(engine, channelOf(guest, relid), "out");
	if (status !== "ok" || ring === null) return status;
	const next = word(ring, layout.HEADER_WRITE_INDEX);
	const size = ring.length - PAGE_SIZE;
	const bytes = Uint8Array.from(
		{ length: (next - at + size) % size },
		(_, i) => ring[PAGE_SIZE + ((at + i) % size)] as number,
	);
	expected.packet("PKTOUT", `${relid} at=${at.toString(16)} next=${next.toString(16)}`, bytes);
	return status;
}

function rangeOf(args: LineArgs, index: number): GpaRange {
	const match = /^(\d+):(\d+):((?:0x[0-9a-f]+|\d+)(?:\+(?:0x[0-9a-f]+|\d+))*)?$/i.exec(args.text(index, "range"));
	if (match === null) throw args.error("range", "len:offset:pfn+pfn", args.text(index, "range"));
	const pfns = match[3] === undefined ? [0] : match[3].split("+").map(Number);
	return { bytes: Number(match[1]), offset: Number(match[2]), pfns };
}

function received(replay: GuestReplay, args: LineArgs, raw: boolean): GuestStatus {
	const { guest, expected } = replay;
	const relid = args.number(0, "relid");
	const { status, packet } = guest.receive(relid, args.has(1) ? args.number(1, "max") : MAX_PAYLOAD_BYTES, raw);
	if (packet !== null) {
		const from = raw ? 0 : packet.offset;
		expected.packet("RECV", String(relid), packet.bytes.subarray(from, from + RECV_BYTES));
	}
	return status;
}

function driverOf(args: LineArgs): (channel: GuestChannel) => DriverPlan | null {
	const guid = args.text(0, "guid");
	if (guid !== "*" && !/^[0-9a-f]{32}$/i.test(guid)) throw args.error("guid", "32 hex digits or *", guid);
	const type = guid === "*" ? null : readGuid(bytesOfHex(guid), 0);
	const plan = { open: openOptions(args, 1), subChannels: args.line.args.includes("sc", 3) };
	return ({ offer }) => (type === null || offer.interfaceId === type ? plan : null);
}

/** Commands of the guest itself: they end when they end. */
const GUEST_COMMANDS: Readonly<Record<string, (replay: GuestReplay, args: LineArgs) => unknown>> = {
	connect: ({ guest }, args) => guest.connect(args.has(0) ? args.number(0, "version") : undefined),
	open: ({ guest, kept }, args) => {
		const relid = args.number(0, "relid");
		const channel = channelOf(guest, relid);
		const options = openOptions(args, 1, channel && (kept.get(channel) ?? channel.options ?? {}));
		if (channel !== undefined) kept.set(channel, options);
		guest.open(relid, options);
	},
	close: ({ guest }, args) => guest.close(args.number(0, "relid")),
	unbind: ({ guest }, args) => guest.unbind(args.number(0, "relid")),
	gpadl: ({ guest, buffers }, args) => {
		const made = guest.gpadl(args.number(0, "relid"), args.number(1, "pages", 2 ** 20));
		buffers.push(() => made.result?.handle);
	},
	gpadldown: ({ guest, buffers }, args) => {
		const handle = buffers[args.number(1, "id")]?.();
		return guest.gpadlDown(args.number(0, "relid"), handle ?? 0);
	},
	modify: ({ guest }, args) => guest.modify(args.number(0, "relid"), args.number(1, "cpu")),
	requestoffers: ({ guest }) => guest.requestOffers(),
	tlconnect: ({ guest }, args) => {
		const [endpoint, service] = [args.bytes(0, "endpoint", 16), args.bytes(1, "service", 16)];
		if (endpoint.length !== 16 || service.length !== 16) throw args.error("guid", "32 hex digits", args.line.rest);
		return guest.tlConnect(readGuid(endpoint, 0), readGuid(service, 0));
	},
	unload: ({ guest }) => guest.unload(),
	kexec: ({ guest }) => guest.unload(),
	crash: ({ guest }) => guest.crash(),
	exit: ({ guest }) => guest.exit(),
	suspend: ({ guest }) => guest.suspend(),
	resume: ({ guest }) => guest.resume(),
};

/** Commands of the recorder's test driver: they end at once. */
const DRIVER_COMMANDS: Readonly<Record<string, (replay: GuestReplay, args: LineArgs) => GuestStatus>> = {
	list: () => "ok",
	send: (replay, args) => {
		const relid = args.number(0, "relid");
		const payload = payloadOf(args.number(4, "seed"), args.number(1, "length", MAX_PAYLOAD_BYTES));
		const type = args.has(5) ? args.number(5, "type", 65535) : PacketType.InBand;
		const options = { type: (args.number(2, "flags", 65535) << 16) | type, id: args.big(3, "reqid") };
		return sent(replay, relid, () => replay.guest.send(relid, payload, options));
	},
	sendmpb: (replay, args) => {
		const relid = args.number(0, "relid");
		const payload = payloadOf(args.number(3, "seed"), args.number(1, "length", MAX_PAYLOAD_BYTES));
		const ranges = args.line.args.slice(4).map((_, i) => rangeOf(args, 4 + i));
		const id = args.big(2, "reqid");
		return sent(replay, relid, () => replay.guest.sendGpaDirect(relid, ranges, payload, { id }));
	},
	recv: (replay, args) => received(replay, args, false),
	recvraw: (replay, args) => received(replay, args, true),
	manual: ({ manual }, args) => {
		if (args.number(1, "manual", 1) === 1) manual.add(args.number(0, "relid"));
		else manual.delete(args.number(0, "relid"));
		return "ok";
	},
	pendsz: ({ engine, guest }, args) => {
		const rings = channelOf(guest, args.number(0, "relid"))?.rings;
		if (rings != null)
			orThrow(engine.instance.exports.ringSetPending(rings.writer.number, args.number(1, "bytes")), () => "pendsz");
		return "ok";
	},
	ring: (replay, args) => {
		compareRings(replay, args.number(0, "relid"), "now");
		return "ok";
	},
	rqaddr: ({ guest }, args) => {
		guest.endRequest(args.number(0, "relid"), args.big(1, "id"));
		return "ok";
	},
	rqmatch: ({ guest }, args) => {
		guest.endRequest(args.number(0, "relid"), args.big(1, "id"), args.big(2, "addr"));
		return "ok";
	},
	sccb: ({ guest }, args) => {
		const channel = channelOf(guest, args.number(0, "relid"));
		if (channel !== undefined) channel.openSubChannels = channel.options ?? { sendPages: 2, receivePages: 2 };
		return "ok";
	},
	driver: (replay, args) => {
		replay.driver = driverOf(args);
		return "ok";
	},
	nodriver: (replay) => {
		replay.driver = null;
		return "ok";
	},
	hold: ({ host }) => {
		host.hold();
		return "ok";
	},
	faildecrypt: ({ pages }, args) => {
		pages.fail("DECRYPT", args.number(0, "after"));
		return "ok";
	},
	failencrypt: ({ pages }, args) => {
		pages.fail("ENCRYPT", args.number(0, "after"));
		return "ok";
	},
	release: () => "ok",
};

/** Runs command line number `number`. @throws InputError for a command that is not known, or bad arguments */
export function runCommand(replay: GuestReplay, number: number, args: LineArgs): void {
	const name = args.line.verb;
	const begins = GUEST_COMMANDS[name];
	if (begins !== undefined) {
		replay.numbers.push(number);
		begins(replay, args);
		return;
	}
	const runs = DRIVER_COMMANDS[name];
	if (runs === undefined) throw args.error("command", "a known command", name);
	replay.expected.result(number, runs(replay, args));
	// the interrupts come after the command has said that it is over
	if (name === "release") replay.host.release();
}
