import { existsSync } from "node:fs";
import { readText } from "../node/input.ts";
import type { VmbusDecodeDocument } from "../report/documents.ts";
import { type DecodedItem, decodedText } from "../report/vmbus-decoded.ts";
import { dissectorScript } from "../report/vmbus-dissector.ts";
import { hex } from "../status.ts";
import type { Decoded } from "../vmbus/decode/decoded.ts";
import { describeBytes, describeMessage, describeSlot } from "../vmbus/decode/message.ts";
import { describePacket } from "../vmbus/decode/packet.ts";
import { type CapturedBytes, pcapng } from "../vmbus/decode/pcapng.ts";
import { isTranscript, parseHex, type Recorded, transcriptItems } from "../vmbus/decode/transcript.ts";
import type { DecodeRules } from "../vmbus/wire/codec.ts";
import { Version, versionName } from "../vmbus/wire/versions.ts";
import { checkOutputs, writeJson, writeOutput } from "./outputs.ts";
import { parseOptions, UsageError } from "./usage.ts";
import { demoCommand } from "./vmbus-demo.ts";

const HELP = `Usage: coco-dma vmbus decode HEX...|FILE... [options]

Prints VMBus bytes as a person reads them, one field a line: offset, size, name, value and what the value says.
HEX, in one or more groups: a channel message, a message slot of 256 bytes, or a ring packet from its descriptor on.
FILE, plain or gzip: such hex, or a recorded transcript, of which every message and packet is decoded.
Exit code: 0 when all could be decoded, 1 when some bytes are malformed, 2 when the hex or the file cannot be read.

Options:
  --version X.Y      the connection's version, such as 5.3: refuses messages that it does not have
  --json FILE|-      also writes them as JSON; "-": JSON alone on standard output
  --pcapng FILE      also writes the bytes for Wireshark (with the script of vmbus dissector), 1 µs apart
  --help
`;

/** A decoded piece, and what a capture has of it. */
interface Item extends DecodedItem {
	readonly captured: Omit<CapturedBytes, "timeNs">;
}

const PATHS = { hc: "direct", ghcb: "ghcb", tdcall: "tdcall" } as const;
const NS_APART = 1000n;

function versionOption(text: string | undefined): DecodeRules {
	if (text === undefined) return {};
	const versions = Object.values(Version);
	const version = versions.find((known) => versionName(known) === text);
	if (version !== undefined) return { version };
	throw new UsageError(`--version: expected ${versions.map(versionName).join(", ")}, not "${text}"`);
}

function recordedItem(source: string, recorded: Recorded, rules: DecodeRules): Item {
	const { line, verb, from, bytes, connectionId = 0, path, relid = 0, isCut, vp = 0 } = recorded;
	const known = { ...rules, direction: from };
	const item = (way: string, decoded: Decoded, rest: Partial<CapturedBytes>): Item => {
		const captured = { kind: decoded.kind, from, bytes, vp, ...rest };
		return { source, line, way: `${verb} ${way}`, decoded, captured };
	};
	if (verb === "PKTOUT" || verb === "PKTIN") return item(`relid ${relid}`, describePacket(bytes, isCut), { id: relid });
	if (verb === "HVMSG") return item(`vp ${vp}`, describeSlot(bytes, known), { synic: "hypervisor" });
	const decoded = describeMessage(bytes, known);
	if (path === undefined) return item(`vp ${vp}`, decoded, { synic: "hypervisor" });
	return item(`connection ${hex(connectionId)} by ${path}`, decoded, { id: connectionId, path: PATHS[path] });
}

function hexItem(source: string, bytes: Uint8Array, rules: DecodeRules): Item {
	const decoded = describeBytes(bytes, rules);
	return { source, decoded, captured: { kind: decoded.kind, from: decoded.from ?? "guest", bytes } };
}

async function fileItems(path: string, rules: DecodeRules): Promise<Item[]> {
	const text = await readText(path);
	if (!isTranscript(text)) return [hexItem(path, parseHex(text, { name: path }), rules)];
	return [...transcriptItems(path, text)].map((recorded) => recordedItem(path, recorded, rules));
}

/** What the arguments hold: files, and hex, whose groups may stand apart. */
async function itemsOf(args: readonly string[], rules: DecodeRules): Promise<Item[]> {
	const items: Item[] = [];
	for (let i = 0; i < args.length; ) {
		const end = args.findIndex((argument, at) => at >= i && existsSync(argument));
		const groups = args.slice(i, end < 0 ? args.length : end);
		if (groups.length > 0) {
			const text = groups.join(" ");
			const name = text.length > 40 ? `${text.slice(0, 40)}...` : text;
			items.push(hexItem("HEX", parseHex(text, { name: `${name}: no such file; as hex` }), rules));
		} else items.push(...(await fileItems(args[i] as string, rules)));
		i += Math.max(groups.length, 1);
	}
	return items;
}

async function decodeCommand(args: readonly string[]): Promise<number> {
	const { values, positionals } = parseOptions(args, {
		version: { type: "string" },
		json: { type: "string" },
		pcapng: { type: "string" },
		help: { type: "boolean" },
	});
	if (values.help) {
		process.stdout.write(HELP);
		return 0;
	}
	if (positionals.length === 0) throw new UsageError("decode: expected HEX or a FILE");
	if (values.pcapng === "-") throw new UsageError("--pcapng: expected a FILE");
	checkOutputs({ json: values.json, pcapng: values.pcapng }, positionals);
	const rules = versionOption(values.version);
	const items = await itemsOf(positionals, rules);
	if (values.json !== "-") process.stdout.write(items.map(decodedText).join("\n"));
	if (values.pcapng !== undefined) {
		const events = items.map(({ captured }, i) => ({ ...captured, timeNs: BigInt(i) * NS_APART }));
		writeOutput(values.pcapng, pcapng(events));
	}
	if (values.json !== undefined) {
		writeJson<VmbusDecodeDocument>(values.json, {
			schema: "coco-dma/vmbus-decode/1",
			command: "vmbus decode",
			items: items.map(({ source, line, way, decoded }) => ({
				source,
				...(line === undefined || way === undefined ? {} : { line, way }),
				...decoded,
			})),
		});
	}
	return items.some(({ decoded }) => decoded.error !== undefined) ? 1 : 0;
}

const VMBUS_HELP = `Usage: coco-dma vmbus decode HEX...|FILE... [options]
       coco-dma vmbus demo --scenario NAME [options]
       coco-dma vmbus dissector

Commands:
  decode     VMBus messages and ring packets as a person reads them
  demo       a whole system, step by step, and what the host can read of it
  dissector  a script for Wireshark and tshark that reads what --pcapng writes

coco-dma vmbus COMMAND --help tells more.
`;

const DISSECTOR_HELP = `Usage: coco-dma vmbus dissector > vmbus.lua

Prints a script in Lua with which Wireshark and tshark read what --pcapng writes:
tshark -X lua_script:vmbus.lua -r FILE.pcapng

Options:
  --help
`;

async function dissectorCommand(args: readonly string[]): Promise<number> {
	const { values, positionals } = parseOptions(args, { help: { type: "boolean" } });
	if (positionals.length > 0) throw new UsageError(`dissector: expected nothing, not "${positionals[0]}"`);
	process.stdout.write(values.help ? DISSECTOR_HELP : dissectorScript());
	return 0;
}

const COMMANDS = new Map([
	["decode", decodeCommand],
	["demo", demoCommand],
	["dissector", dissectorCommand],
]);

/** Runs `coco-dma vmbus`. @returns the exit code */
export async function vmbusCommand(args: readonly string[]): Promise<number> {
	const [name, ...rest] = args;
	if (name === "--help") {
		process.stdout.write(VMBUS_HELP);
		return 0;
	}
	const command = COMMANDS.get(name ?? "");
	if (command !== undefined) return command(rest);
	const expected = [...COMMANDS.keys()].join(", ");
	throw new UsageError(name === undefined ? `expected ${expected}` : `unknown command "${name}": expected ${expected}`);
}
