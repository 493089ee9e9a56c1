/**
 * Transcripts of Linux 6.12's own guest driver: our guest, as linux-6.12, is given what the host did and the commands, and must
 * post, signal, convert and write to its rings the same. Where the recorded host is well-behaved, our server stands in for it too.
 */
import { Engine } from "../../engine.ts";
import { PacketType } from "../../ring/packet.ts";
import type { CallPath, Isolation } from "../../synic/modes.ts";
import { type TranscriptLine, transcriptLines } from "../../vmbus/decode/transcript.ts";
import type { GuestChannel } from "../../vmbus/guest/channel.ts";
import { VmbusGuest } from "../../vmbus/guest/guest.ts";
import type { GuestCommand } from "../../vmbus/guest/options.ts";
import { EnginePages } from "../../vmbus/guest/pages.ts";
import type { Build } from "../../wasm.ts";
import { loadHashes } from "../hashes.ts";
import { divergedAt, type Replayed } from "../result.ts";
import { compareRings, type GuestReplay, hostRing, runCommand } from "./commands.ts";
import { Expected } from "./expect.ts";
import { ReplayHost } from "./host.ts";
import { LineArgs } from "./lines.ts";
import { ReplayPages } from "./pages.ts";
import { hasCleanServer, verifyVmbusServer } from "./server.ts";

/** clean: only what a server may be asked to do. special: faults on purpose, answers made by hand (golden/vmbus/FORMAT.md). */
export type TranscriptHost = "clean" | "special";

/** RAM of a replay: room for the largest GPADLs, and where the guest's pages start. */
const RAM_BYTES = 320 * 2 ** 20;
const FIRST_GPA = 2 ** 20;
/** Bytes of rings' records and packet buffers. */
const SPARE_BYTES = 2 ** 24;
/** The recorder stops a callback at so many packets. */
const LIVELOCK_PACKETS = 24;
/** What Linux answers for a completion whose id is not live. */
const REQUEST_ERROR = "fffffffffffffffe";
const PATHS: Readonly<Record<CallPath, string>> = { direct: "hc", ghcb: "ghcb", tdcall: "tdcall" };
const ISOLATIONS: readonly Isolation[] = ["none", "vbs", "snp", "tdx"];

/** The guest that was recorded: its first line, and its arguments where that says nothing. */
interface Recorded {
	readonly cpus: number;
	readonly isolation: Isolation;
	readonly paravisor: boolean;
	readonly vtom: number;
	readonly vtl: number;
	/** VP index of CPU c: c * factor + offset. */
	readonly vp: readonly [factor: number, offset: number];
}

function readHello(path: string, lines: readonly TranscriptLine[]): Recorded {
	const args = new LineArgs(path, lines[0] as TranscriptLine);
	const option = (key: string, pattern: RegExp, expected: string) => {
		const text = args.option(key) ?? "0";
		if (!pattern.test(text)) throw args.error(key, expected, text);
		return text;
	};
	const guestArgs = lines.find(({ direction, verb }) => direction === "S" && verb === "guestargs")?.rest ?? "";
	const [, factor = "1", offset = "0"] = /--vp=(\d{1,4}),(\d{1,4})/.exec(guestArgs) ?? [];
	return {
		cpus: Number(option("cpus", /^([1-9]|[1-9]\d|1\d\d)$/, "1 to 199")),
		isolation: ISOLATIONS[Number(option("iso", /^[0-3]$/, "0 to 3"))] as Isolation,
		paravisor: option("paravisor", /^[01]$/, "0 or 1") === "1",
		vtom: Number.parseInt(option("vtom", /^[0-9a-f]{1,12}$/, "hex digits"), 16),
		vtl: Number(option("vtl", /^[02]$/, "0 or 2")),
		vp: [Number(factor), Number(offset)],
	};
}

/** Reads a channel's packets as the recorder's driver does. */
function readPackets(replay: GuestReplay, channel: GuestChannel): void {
	const { relid } = channel;
	const { guest, expected } = replay;
	let count = 0;
	for (const packet of guest.packets(relid)) {
		const ends = packet.type === PacketType.Completion && (channel.options?.requests ?? 0) > 0;
		const found = ends ? (guest.endRequest(relid, packet.id)?.toString(16) ?? REQUEST_ERROR) : undefined;
		expected.packet("PKTIN", String(relid), packet.bytes, found === undefined ? "" : ` rqaddr=${found}`);
		if (++count < LIVELOCK_PACKETS) continue;
		expected.livelock(relid);
		channel.stuck = true;
		return;
	}
}

async function makeReplay(path: string, lines: readonly TranscriptLine[], build: Build): Promise<GuestReplay> {
	const recorded = readHello(path, lines);
	const { isolation, paravisor, cpus, vtom, vp } = recorded;
	const engine = await Engine.create({
		build,
		swiotlb: null,
		ram: [{ gpa: 0, bytes: RAM_BYTES }],
		coco: isolation !== "none",
		spareBytes: SPARE_BYTES,
	});
	const own = EnginePages.over(engine, [{ gpa: FIRST_GPA, bytes: RAM_BYTES - FIRST_GPA }]);
	const hashes = await loadHashes();
	const expected = new Expected(path, lines, BigInt(vtom), hashes);
	const pages = new ReplayPages(engine, own, expected);
	const numbers: number[] = [];
	const manual = new Set<number>();
	const host = new ReplayHost(engine, cpus, paravisor ? own : null, (cpu) => replay.guest.interrupt(cpu));
	const guest = new VmbusGuest({
		engine,
		behaviour: "linux-6.12",
		isolation,
		paravisor,
		sharedGpaBoundary: vtom,
		vtl: recorded.vtl,
		cpus,
		vpIndex: (cpu) => cpu * vp[0] + vp[1],
		pages,
		driver: (channel) => replay.driver?.(channel) ?? null,
		ports: {
			post: (connectionId, type, payload, way) => {
				expected.post(connectionId, type, payload, PATHS[way]);
				return expected.status((line) => hostInput(replay, line));
			},
			signal: (connectionId, flag, way) =>
				expected.line1("SIGNAL", `${connectionId.toString(16)} ${flag.toString(16)} ${PATHS[way]}`),
			bitSet: (gpa, bit) => expected.bitSet(gpa, bit),
			eom: (cpu) => {
				expected.line1("EOM", String(cpu));
				host.eom(cpu);
			},
			readMsr: (cpu, _, msr) => host.readMsr(cpu, msr),
			writeMsr: (cpu, party, msr, value) => {
				if (party === "hypervisor") host.writeMsr(cpu, msr, value);
				return true;
			},
			callback: (channel) => {
				if (!manual.has(channel.relid) && !channel.stuck) readPackets(replay, channel);
			},
			livelock: ({ relid }) => expected.livelock(relid),
			now: () => replay.clock,
			finished: (command) => finished(replay, command),
			probed: (channel, status) => {
				if (status === "ok") compareRings(replay, channel.relid, "opened");
			},
		},
	});
	const replay: GuestReplay = {
		engine,
		guest,
		expected,
		hashes,
		host,
		pages,
		numbers,
		buffers: [],
		kept: new WeakMap(),
		manual,
		driver: null,
		clock: 0,
	};
	return replay;
}

/** Time passes: what waits with a limit waits no longer. */
function passTime(replay: GuestReplay): void {
	replay.clock += 60e9;
	replay.guest.tick();
}

/** A command is over: an opened channel's rings are shown first. */
function finished(replay: GuestReplay, command: GuestCommand): void {
	const number = replay.numbers[command.number] ?? command.number;
	const status = command.status ?? "ok";
	if (command.name === "open" && status === "ok") compareRings(replay, command.relid ?? 0, "opened");
	// the recorder's driver does not say how the end of a buffer went
	replay.expected.result(number, command.name === "gpadldown" ? "ok" : status);
}

/** What the host does. Bytes that it writes to guest memory stand in the note before. */
function hostInput(replay: GuestReplay, line: TranscriptLine): void {
	const { host, guest, expected } = replay;
	const args = new LineArgs(expected.path, line);
	const cpu = () => (args.has(1) ? args.number(1, "cpu", 4095) : 0);
	const slot = new Uint8Array(256);
	switch (line.verb) {
		case "hostring":
			hostRing(replay, args);
			break;
		// the note before says the same in terms of the channel
		case "MEMW":
			break;
		case "MSG":
			host.message(expected.hostPayload(args.bytes(0, "payload", 240)), cpu());
			guest.pollCrash();
			break;
		case "HVMSG":
			slot.set(args.bytes(0, "message", 256));
			host.slot(slot, cpu());
			guest.pollCrash();
			break;
		case "EVENT":
			host.event(args.number(0, "relid"), cpu());
			break;
		case "TICK":
			for (let left = args.number(0, "polls", 100_000); left > 0; left--) guest.pollCrash();
			break;
		default:
			throw args.error("verb", "MSG, HVMSG, EVENT, MEMW, RET or TICK", line.verb);
	}
}

async function verifyGuest(path: string, text: string, build: Build): Promise<Replayed> {
	const lines = [...transcriptLines(path, text)];
	const replay = { current: null as GuestReplay | null };
	try {
		replay.current = await makeReplay(path, lines, build);
		const { expected } = replay.current;
		let commands = 0;
		const { current } = replay;
		const next = () => {
			if (expected.endsWithout("resume")) passTime(current);
			return expected.nextInput();
		};
		for (let line = next(); line !== undefined; line = next()) {
			if (line.direction === "C") runCommand(replay.current, commands++, new LineArgs(path, line));
			else hostInput(replay.current, line);
		}
	} catch (error) {
		const { compared = {}, line = 1 } = replay.current?.expected ?? {};
		return { compared, outcome: divergedAt(line, error) };
	}
	const { compared } = replay.current.expected;
	const names: readonly [string, string][] = [
		["POST", "posts"],
		["SIGNAL", "signals"],
		["BITSET", "bits set"],
		["DECRYPT", "decryptions"],
		["ENCRYPT", "encryptions"],
		["PKTOUT", "packets out"],
		["PKTIN", "packets in"],
		["RES", "results"],
	];
	const parts = names.flatMap(([verb, name]) => (compared[verb] === undefined ? [] : [`${compared[verb]} ${name}`]));
	const said = `guest: ${parts.join(", ") || "nothing"} identical`;
	return { compared, outcome: { identical: true, said } };
}

/**
 * Replays a transcript.
 * @param host whether the recorded host behaves, so that our server may stand in for it too. Default: its lines tell
 * @throws InputError for a transcript that is not of the format
 */
export async function verifyVmbus(
	path: string,
	text: string,
	build: Build = "engine",
	host: TranscriptHost = "clean",
): Promise<Replayed> {
	const guest = await verifyGuest(path, text, build);
	const lines = text.split("\n");
	if (!guest.outcome.identical || host === "special" || !hasCleanServer(lines)) return guest;
	const server = verifyVmbusServer(path, lines);
	const counts = Object.entries(server.compared).map(([name, count]) => [`server ${name}`, count] as const);
	const compared = { ...guest.compared, ...Object.fromEntries(counts) };
	if (!server.outcome.identical) return { compared, outcome: server.outcome };
	return { compared, outcome: { identical: true, said: `${guest.outcome.said}; ${server.outcome.said}` } };
}
