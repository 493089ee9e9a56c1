/** A scenario of a whole VMBus system for people, for programs and for Wireshark. */
import { PAGE_SIZE } from "../../assembly/layout/context.ts";
import { hex } from "../status.ts";
import { registerName } from "../synic/registers.ts";
import { hvStatusName } from "../synic/status.ts";
import { type Decoded, hexText, runsText } from "../vmbus/decode/decoded.ts";
import { describeMessage } from "../vmbus/decode/message.ts";
import { describePacket } from "../vmbus/decode/packet.ts";
import { type CapturedBytes, pcapng } from "../vmbus/decode/pcapng.ts";
import type { CallEvent, PagesEvent, SystemEvent } from "../vmbus/system/events.ts";
import type { ScenarioResult } from "../vmbus/system/scenarios.ts";
import type { ChannelFound, PagesFound, SystemState } from "../vmbus/system/stage.ts";
import { versionName } from "../vmbus/wire/versions.ts";
import { aligned } from "./render/text.ts";

const PATHS = { direct: "plain hypercall", ghcb: "GHCB", tdcall: "tdcall" } as const;
const OWNERS = { hypervisor: "hypervisor's", paravisor: "paravisor's" } as const;
const TAKERS = { hypervisor: "host", paravisor: "paravisor" } as const;
/** Fields that say nothing more in a transcript. */
const QUIET = new Set([
	"type",
	"targetVp",
	"padding",
	"offset8",
	"len8",
	"instanceId",
	"openId",
	"sint",
	"rangeBytes",
	"trailer",
]);
const NOTHING = new Set(["0", "0x0", "all zero", "00000000-0000-0000-0000-000000000000"]);

/** The name and the main fields of what was decoded. */
function summary({ name: what, fields }: Decoded): string {
	const said = fields
		.filter(({ name, value }) => !QUIET.has(name) && (!NOTHING.has(value) || name === "status" || name === "supported"))
		.map(({ name, value, meaning }) => {
			if (name === "interfaceId" && meaning !== "") return meaning;
			if (name === "payload") return `payload of ${fields.find((one) => one.name === "payload")?.bytes} bytes`;
			const isWord = meaning !== "" && meaning.length <= 44;
			return `${name} ${value}${isWord ? ` (${meaning})` : ""}`;
		});
	return `${what}${said.length === 0 ? "" : `: ${said.join(", ")}`}`;
}

function callText({ kind, path, connectionId, payload, by, trusted, status }: CallEvent): string {
	const taken = by === null ? "nobody" : TAKERS[by];
	const trust = trusted ? ", trusted" : "";
	const ended = status === 0 ? `to the ${taken}${trust}` : `fails: ${hvStatusName(status ?? -1)}`;
	const way = `connection ${hex(connectionId)} by ${PATHS[path]}, ${ended}`;
	return kind === "post" ? `posts ${summary(describeMessage(payload))} -- ${way}` : `signals ${way}`;
}

function pagesText({ change, gpa, pages, purpose, before, after, done }: PagesEvent): string {
	const count = `${pages} page${pages === 1 ? "" : "s"} at ${hex(gpa)} (${purpose})`;
	return `${change}s ${count}: ${before} -> ${after}${done ? "" : ", FAILED"}`;
}

/** What an event says, without its step and who did it. */
function eventText(event: SystemEvent): string {
	switch (event.kind) {
		case "post":
		case "signal":
			return callText(event);
		case "message": {
			const ended =
				event.status !== 0 ? `, fails: ${hvStatusName(event.status)}` : event.queued ? ", waits for the slot" : "";
			const slot = `${OWNERS[event.synic]} SynIC, VP ${event.vp} SINT ${event.sint}${ended}`;
			return `sends ${summary(describeMessage(event.payload))} -- ${slot}`;
		}
		case "relay": {
			const way = event.from === "host" ? "to the paravisor" : `connection ${hex(event.connectionId)}, to the host`;
			return `posts ${summary(describeMessage(event.payload))} -- ${way}`;
		}
		case "flag": {
			const ended = event.status === 0 ? "" : `, fails: ${hvStatusName(event.status ?? -1)}`;
			return `sets event flag ${event.flag} -- ${OWNERS[event.synic]} SynIC, VP ${event.vp}${ended}`;
		}
		case "register": {
			const way = `${OWNERS[event.synic]} SynIC by ${event.path === "direct" ? "wrmsr" : PATHS[event.path]}`;
			const value = `0x${event.value.toString(16)}`;
			return `writes ${registerName(event.msr)} = ${value} -- ${way}${event.done ? "" : ", faults"}`;
		}
		case "pages":
			return pagesText(event);
		case "packet": {
			const verb = event.from === "guest" ? "sends" : "sent the guest";
			const ended = event.status === "ok" ? "" : `, fails: ${event.status}`;
			return `${verb} ${summary(describePacket(event.bytes))} -- channel ${event.relid}, ${event.ring} ring${ended}`;
		}
		case "served": {
			const packets = `${event.packets} packet${event.packets === 1 ? "" : "s"} of its channel ${event.relid}`;
			return `reads ${packets}${event.broken === null ? "" : `, and stops: ${event.broken}`}`;
		}
		case "note":
			return `* ${event.text}`;
	}
}

/** An event as its line says it. */
function eventLine(event: SystemEvent, step: number): string {
	return `${String(step).padStart(4)}  ${event.from.padEnd(9)} ${eventText(event)}`;
}

function pageRow({ purpose, gpas, state, hostReads }: PagesFound): string[] {
	const pfns = runsText(gpas.map((gpa) => BigInt(gpa / PAGE_SIZE)));
	return [purpose, String(gpas.length), pfns, state, hostReads ? "yes" : "no"];
}

function channelText(line: ChannelFound): string {
	const { relid, name, device, relayed, state, connectionId, ring, external, carried } = line;
	const way = `${device}'s device${relayed ? ", relayed by the paravisor" : ""}`;
	const data = carried.map(({ kind, bytes, same }) => `${kind} ${bytes} B ${same ? "echoed" : "LOST"}`).join(", ");
	const memory = `ring ${ring}, external memory ${external}`;
	return `channel ${relid}, ${name}: ${way}, connection ${hex(connectionId)}, ${state}\n  ${memory}; ${data || "no data"}`;
}

function connectionText(connection: SystemState["connection"]): string {
	if (connection === null) return "none";
	const { version, features, confidential } = connection;
	const kind = confidential ? "confidential" : "not confidential";
	return `version ${versionName(version)}, features 0x${features.toString(16)}, ${kind}`;
}

/** One line an event, then what the host can read, then the channels. */
export function scenarioText(shown: ScenarioResult): string {
	const { scenario, about, platform, events, connection, pages, channels, left } = shown;
	const { used, shared, placed, leaked } = left;
	const rows = [["purpose", "pages", "page numbers", "state", "host reads"], ...pages.map(pageRow)];
	return [
		`${scenario} on ${platform}: ${about}`,
		"",
		...events.map((event, i) => eventLine(event, i + 1)),
		"",
		`What the host can read (connection: ${connectionText(connection)}):`,
		...aligned(rows, "left"),
		"",
		...(channels.length === 0 ? ["no channels"] : channels.map(channelText)),
		`after the end: ${used} pages in use, ${shared} of the guest's pages shared, ${leaked} leaked, ${placed} placed by the paravisor`,
		"",
	].join("\n");
}

/** Plain data: bytes as hex, register values as 0x text. */
export function scenarioData({ events, ...rest }: ScenarioResult): object {
	const plain = (value: unknown) => {
		if (value instanceof Uint8Array) return hexText(value);
		return typeof value === "bigint" ? `0x${value.toString(16)}` : value;
	};
	const steps = events.map((event, i) => ({
		step: i + 1,
		...Object.fromEntries(Object.entries(event).map(([name, value]) => [name, plain(value)])),
		text: eventText(event),
	}));
	return { command: "vmbus demo", ...rest, events: steps };
}

/** HvSignalEvent's input. */
function signalInput(connectionId: number): Uint8Array {
	const bytes = new Uint8Array(8);
	new DataView(bytes.buffer).setUint32(0, connectionId, true);
	return bytes;
}

function captured(event: SystemEvent): CapturedBytes | null {
	const from = event.from === "guest" ? "guest" : "server";
	const common = { from, timeNs: BigInt(event.timeNs) } as const;
	switch (event.kind) {
		case "post":
		case "signal": {
			const { path, connectionId: id, trusted, status } = event;
			const call = { ...common, path, id, trusted, status: status ?? 0 };
			if (event.kind === "post") return { ...call, kind: "message", bytes: event.payload };
			return { ...call, kind: "hypercall", bytes: signalInput(id) };
		}
		case "message":
			return {
				...common,
				kind: "message",
				bytes: event.payload,
				vp: event.vp,
				synic: event.synic,
				trusted: event.synic === "paravisor",
			};
		case "relay": {
			// the paravisor is the host's guest here
			const relayed = event.from === "paravisor" ? "guest" : "server";
			return { ...common, kind: "message", from: relayed, bytes: event.payload, id: event.connectionId };
		}
		case "packet":
			return event.bytes.length === 0
				? null
				: { ...common, kind: "packet", bytes: event.bytes, id: event.relid, memory: event.ring };
		default:
			return null;
	}
}

/** All messages, signals and packets as a pcapng file. */
export function scenarioCapture({ events }: ScenarioResult): Uint8Array {
	return pcapng(events.map(captured).filter((one) => one !== null));
}
