import { readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { MAX_MESSAGE_BYTES } from "../../src/synic/synic.ts";
import { DecodeError, decodeMessage, encodeMessage, fieldBytes } from "../../src/vmbus/wire/codec.ts";
import {
	FIELD_BYTES,
	type FieldSpec,
	hasMessage,
	isAnswer,
	MESSAGES,
	type Message,
	type MessageOf,
	type MessageSpec,
	MessageType,
	messageSpec,
	type RequestName,
} from "../../src/vmbus/wire/messages.ts";
import { Feature, Version } from "../../src/vmbus/wire/versions.ts";
import { recordingText } from "../helpers/golden.ts";
import { printSeed, SEED } from "../helpers/random.ts";

printSeed("vmbus messages");
const run = { seed: SEED, numRuns: 300 };
const GOLDEN = fileURLToPath(new URL("../golden/vmbus/", import.meta.url));
const rows = Object.values<MessageSpec>(MESSAGES);

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const bytes = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));

/** The message, or a failure that shows the refusal. */
function decoded(payload: Uint8Array, rules = {}): Message {
	const message = decodeMessage(payload, rules);
	if (message instanceof DecodeError) throw new Error(message.text);
	return message;
}

function refusal(payload: Uint8Array, rules = {}): string {
	const message = decodeMessage(payload, rules);
	return message instanceof DecodeError ? message.error : `a message of type ${message.type}`;
}

const gpa = fc.oneof(
	fc.maxSafeNat().map((n) => n % 2 ** 52),
	fc.constantFrom(0, 4096, 2 ** 47 + 4096, 2 ** 52 - 1),
);
const guid = fc.uuid();
const VALUES = {
	u8: fc.nat(0xff),
	u16: fc.nat(0xffff),
	u32: fc.oneof(fc.nat(0xffffffff), fc.constantFrom(0, 0xffffffff, 0x80000000)),
	gpa,
	gpaPair: fc.tuple(gpa, gpa),
	guid,
	bytes120: fc.uint8Array({ minLength: 120, maxLength: 120 }),
	quadwords: fc.array(fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }), { maxLength: 27 }),
};

function valuesOf(fields: Readonly<Record<string, FieldSpec>>) {
	return fc.record(Object.fromEntries(Object.entries(fields).map(([name, { kind }]) => [name, VALUES[kind]])));
}

/** Any message of a type, in any of its forms. */
function anyMessage(type: number): fc.Arbitrary<Message> {
	const spec = messageSpec(type) as MessageSpec;
	const versions = { version: fc.constantFrom(...Object.values(Version)) };
	return fc
		.tuple(
			valuesOf(spec.fields),
			fc.record(versions),
			fc.nat(spec.extensions.length),
			...spec.extensions.map((e) => valuesOf(e.fields)),
		)
		.map(([base, { version }, forms, ...longer]) => {
			const message: Record<string, unknown> = { ...base, type };
			if (type === MessageType.InitiateContact) {
				message.version = version;
				if (version < Version.V6_0) delete message.featureFlags;
				if (version < Version.V5_0) for (const name of ["sint", "vtl"]) delete message[name];
				else delete message.interruptPage;
				const flags = ((message.featureFlags as number | undefined) ?? 0) & ~Feature.ClientId;
				if (version >= Version.V6_0) message.featureFlags = (forms > 0 ? flags | Feature.ClientId : flags) >>> 0;
				else return message as Message;
			}
			for (const fields of longer.slice(0, forms)) Object.assign(message, fields);
			if (type === MessageType.VersionResponse && forms > 0) {
				const flags = (message.featureFlags as number) & ~Feature.ServerSpecifiedMonitorPages;
				message.featureFlags = (forms > 1 ? flags | Feature.ServerSpecifiedMonitorPages : flags) >>> 0;
			}
			if (type === MessageType.GpadlBody) message.ranges = [...(message.ranges as bigint[]), 7n];
			return message as unknown as Message;
		});
}
const everyMessage = fc.constantFrom(...rows.map(({ type }) => type)).chain(anyMessage);

describe("the table of messages", () => {
	it("numbers the types 1 to 29 and names every byte of a message at most once", () => {
		expect(rows.map(({ type }) => type).sort((a, b) => a - b)).toEqual(Array.from({ length: 29 }, (_, i) => i + 1));
		for (const spec of rows) {
			const forms = [{ bytes: spec.bytes, fields: spec.fields }, ...spec.extensions];
			const fields = forms.flatMap((form) => Object.values(form.fields));
			for (const version of Object.values(Version)) {
				const taken = new Set<number>();
				for (const field of fields) {
					if (version < (field.from ?? 0) || version >= (field.below ?? 2 ** 32)) continue;
					for (let at = field.at; at < field.at + fieldBytes(field, field.at + FIELD_BYTES[field.kind]); at++) {
						expect(taken.has(at), `${spec.wire} at ${at}`).toBe(false);
						taken.add(at);
					}
				}
				expect(Math.min(...taken, 8)).toBe(8);
			}
			for (const form of forms) {
				for (const [name, { at, kind }] of Object.entries(form.fields)) {
					const end = kind === "quadwords" ? at : at + FIELD_BYTES[kind];
					expect(end, `${spec.wire} ${name}`).toBeLessThanOrEqual(form.bytes);
				}
			}
		}
	});
});

const requests = Object.entries<MessageSpec>(MESSAGES).flatMap(([name, spec]) => {
	const { answer } = spec;
	return answer === undefined ? [] : [{ name, spec, answer, by: (MESSAGES as Record<string, MessageSpec>)[answer.by] }];
});

describe("requests and their answers", () => {
	it.each(requests)("$name is answered by the other side, in fields that both have", ({ spec, answer, by }) => {
		expect(by?.from).toBe(spec.from === "guest" ? "server" : "guest");
		for (const field of answer.repeats) expect(by?.fields[field]?.kind).toBe(spec.fields[field]?.kind ?? "none");
	});

	it("belong together when every field that is repeated is the same, and only then", () => {
		const pair = fc.constantFrom(...requests).chain(({ spec, answer, by }) =>
			fc.record({
				request: anyMessage(spec.type),
				message: fc.oneof(anyMessage((by as MessageSpec).type), everyMessage),
				copied: fc.subarray([...answer.repeats]),
				repeats: fc.constant(answer.repeats),
				type: fc.constant((by as MessageSpec).type),
			}),
		);
		const met = { yes: 0, no: 0 };
		fc.assert(
			fc.property(pair, ({ request, message, copied, repeats, type }) => {
				const [asked, given] = [request, message] as unknown as Record<string, unknown>[];
				const answer = { ...given, ...Object.fromEntries(copied.map((name) => [name, asked?.[name]])) };
				const same = answer.type === type && repeats.every((name) => answer[name] === asked?.[name]);
				met[same ? "yes" : "no"]++;
				expect(isAnswer(answer as unknown as Message, request as MessageOf<RequestName>)).toBe(same);
			}),
			{ seed: SEED, numRuns: 2000 },
		);
		expect(Math.min(met.yes, met.no)).toBeGreaterThan(100);
	});

	it("are known by the versions that have them", () => {
		expect(hasMessage(Version.V5_2, "ModifyChannelResponse")).toBe(false);
		expect(hasMessage(Version.V5_3, "ModifyChannelResponse")).toBe(true);
		expect(hasMessage(0, "InitiateContact")).toBe(true);
	});
});

const USER_DATA = new Uint8Array(120);
const VECTORS: readonly [string, Message, string][] = [
	[
		"INITIATE_CONTACT 6.0, confidential",
		{
			type: MessageType.InitiateContact,
			version: Version.V6_0,
			targetVp: 0,
			sint: 2,
			vtl: 0,
			featureFlags: Feature.ConfidentialChannels,
			monitorPages: [0x1000, 0x2000],
		},
		"0e00000000000000 0000060000000000 0200000010000000 0010000000000000 0020000000000000",
	],
	[
		"VERSION_RESPONSE 6.0 with features",
		{
			type: MessageType.VersionResponse,
			supported: 1,
			connectionState: 0,
			connectionIdOrVersion: 1,
			featureFlags: Feature.ConfidentialChannels,
		},
		"0f00000000000000 0100000001000000 10000000",
	],
	[
		"GPADL_HEADER of four pages",
		{
			type: MessageType.GpadlHeader,
			relid: 1,
			gpadl: 0xe1e10,
			rangeBytes: 40,
			rangeCount: 1,
			ranges: [0x4000n, 0x200n, 0x201n, 0x202n, 0x203n],
		},
		"0800000000000000 01000000101e0e00 2800010000400000 0000000000020000 0000000001020000 0000000002020000 0000000003020000 00000000",
	],
	[
		"OPENCHANNEL",
		{
			type: MessageType.OpenChannel,
			relid: 1,
			openId: 1,
			ringGpadl: 0xe1e10,
			targetVp: 0,
			downstreamPage: 2,
			userData: USER_DATA,
		},
		`0500000000000000 0100000001000000 101e0e0000000000 02000000 ${"00".repeat(120)}`,
	],
];

describe("encoding and decoding", () => {
	it.each(VECTORS)("gives the worked bytes of %s", (_, message, text) => {
		expect(hex(encodeMessage(message))).toBe(text.replaceAll(" ", ""));
		expect(decoded(bytes(text))).toEqual(message);
	});

	it("is its own inverse for every type, version and form", () => {
		fc.assert(
			fc.property(everyMessage, (message) => {
				const payload = encodeMessage(message);
				expect(payload.length).toBeLessThanOrEqual(MAX_MESSAGE_BYTES);
				expect(decoded(payload)).toEqual(message);
			}),
			{ ...run, numRuns: 2000 },
		);
	});

	it("ignores bytes after a message, and reserved ones", () => {
		fc.assert(
			fc.property(everyMessage, fc.uint8Array({ maxLength: 84 }), (message, tail) => {
				const payload = encodeMessage(message);
				const open = messageSpec(message.type)?.extensions.length === 0 && !("ranges" in message);
				if (!open) return;
				const longer = new Uint8Array([...payload, ...tail].slice(0, MAX_MESSAGE_BYTES));
				longer.fill(0xee, 4, 8);
				expect(decoded(longer)).toEqual(message);
			}),
			run,
		);
	});

	it("calls every truncation of a message short, or reads a shorter form of it", () => {
		fc.assert(
			fc.property(everyMessage, (message) => {
				const spec = messageSpec(message.type) as MessageSpec;
				const payload = encodeMessage(message);
				const sizes = [spec.bytes, ...spec.extensions.map((extension) => extension.bytes)];
				for (let length = 0; length < payload.length; length++) {
					const result = decodeMessage(payload.subarray(0, length));
					if (length < spec.bytes) expect(result).toMatchObject({ error: "short" });
					else if (result instanceof DecodeError) expect(result.error).toBe("short");
					else {
						const size = encodeMessage(result).length;
						expect(size).toBeLessThanOrEqual(length);
						expect("ranges" in message || sizes.includes(size)).toBe(true);
					}
				}
			}),
			run,
		);
	});

	it("never throws and never misreads, whatever the bytes", () => {
		const type = fc.oneof(fc.nat(40), fc.nat(0xffffffff));
		const payload = fc.tuple(type, fc.uint8Array({ maxLength: 250 })).map(([first, tail]) => {
			const out = new Uint8Array(4 + tail.length);
			new DataView(out.buffer).setUint32(0, first, true);
			out.set(tail, 4);
			return out;
		});
		const rules = fc.record(
			{
				version: fc.constantFrom(...Object.values(Version)),
				features: fc.nat(0xff),
				direction: fc.constantFrom("guest" as const, "server" as const),
			},
			{ requiredKeys: [] },
		);
		fc.assert(
			fc.property(fc.oneof(payload, fc.uint8Array({ maxLength: 12 })), rules, (raw, known) => {
				const result = decodeMessage(raw, known);
				if (result instanceof DecodeError) expect(result.text).toMatch(/\S/);
				else expect(decoded(encodeMessage(result), known)).toEqual(result);
			}),
			{ ...run, numRuns: 5000 },
		);
	});
});

describe("what a receiver refuses", () => {
	const of = (type: number) => fc.sample(anyMessage(type), { seed: SEED, numRuns: 1 })[0] as Message;

	it("refuses a type before its version, without its feature, and from the wrong side", () => {
		for (const spec of rows) {
			const payload = encodeMessage(of(spec.type));
			const other = spec.from === "guest" ? "server" : "guest";
			expect(refusal(payload, { direction: other })).toBe("wrong-direction");
			for (const version of Object.values(Version)) {
				const expected = version >= spec.minVersion ? `a message of type ${spec.type}` : "not-in-version";
				expect(refusal(payload, { version, direction: spec.from })).toBe(expected);
			}
			if (spec.feature === undefined) continue;
			expect(refusal(payload, { features: ~spec.feature & 0xff })).toBe("not-negotiated");
			expect(refusal(payload, { features: spec.feature })).toBe(`a message of type ${spec.type}`);
		}
	});

	it("refuses types it does not know and payloads that cannot be", () => {
		expect(refusal(bytes("0000000000000000"))).toBe("unknown-type");
		expect(refusal(bytes("1e00000000000000"))).toBe("unknown-type");
		expect(refusal(bytes("ffffffff00000000"))).toBe("unknown-type");
		expect(refusal(new Uint8Array(0))).toBe("short");
		expect(refusal(new Uint8Array(MAX_MESSAGE_BYTES + 1))).toBe("long");
	});

	it("refuses a contact with the client id's flag and without room for it", () => {
		const contact = {
			...(VECTORS[0]?.[1] as Message),
			featureFlags: Feature.ClientId,
			clientId: "0".repeat(8),
		} as never;
		expect(() => encodeMessage(contact)).toThrow("INITIATE_CONTACT: clientId: expected a GUID");
		const short = bytes(VECTORS[0]?.[2] as string);
		short[20] = Feature.ClientId;
		expect(refusal(short)).toBe("short");
		expect(refusal(new Uint8Array([...short, ...new Uint8Array(16)]))).toBe("a message of type 14");
	});

	it("refuses a gpa of 2^52 or more", () => {
		const contact = bytes(VECTORS[0]?.[2] as string);
		contact[24 + 6] = 0x10;
		expect(refusal(contact)).toBe("bad-gpa");
		contact[24 + 6] = 0x0f;
		expect(decoded(contact)).toMatchObject({ monitorPages: [2 ** 52 - 2 ** 48 + 0x1000, 0x2000] });
	});

	it("reads the longer forms only where they were negotiated", () => {
		const open = { ...(VECTORS[3]?.[1] as Message), connectionId: 0x2001, eventFlag: 9, openFlags: 1 } as Message;
		const payload = encodeMessage(open);
		expect(payload.length).toBe(156);
		expect(decoded(payload, { version: Version.V6_0, features: 2 })).toEqual(open);
		expect(decoded(payload, { version: Version.V6_0, features: 4 })).toEqual(VECTORS[3]?.[1]);
		expect(decoded(payload, { version: Version.V5_3 })).toEqual(VECTORS[3]?.[1]);
		const silo = fc.sample(fc.tuple(guid, guid, guid), { seed: SEED, numRuns: 1 })[0] as [string, string, string];
		const connect = { type: MessageType.TlConnectRequest, endpointId: silo[0], serviceId: silo[1], siloId: silo[2] };
		expect(decoded(encodeMessage(connect), { version: Version.V5_2 })).toEqual(connect);
		expect(decoded(encodeMessage(connect), { version: Version.V5_1 })).not.toHaveProperty("siloId");
	});
});

describe("what an encoder refuses", () => {
	it.each([
		[{ type: 2, relid: -1 }, "RESCIND_CHANNELOFFER: relid: expected a whole number below 2^32, not -1"],
		[{ type: 2 }, "RESCIND_CHANNELOFFER: relid: expected a whole number below 2^32, not undefined"],
		[
			{ type: 26, connectionState: 256 },
			"MODIFY_CONNECTION_RESPONSE: connectionState: expected a whole number below 2^8",
		],
		[{ type: 25, monitorPages: [0, 2 ** 52] }, "MODIFY_CONNECTION: monitorPages: expected a gpa below 2^52"],
		[{ type: 25, monitorPages: 5 }, "MODIFY_CONNECTION: monitorPages: expected two gpas"],
		[{ type: 21, endpointId: "x", serviceId: "y" }, "TL_CONNECT_REQUEST: endpointId: expected a GUID"],
		[
			{ type: 9, messageNumber: 0, gpadl: 1, ranges: Array(29).fill(0n) },
			"GPADL_BODY: ranges: expected at most 28 quadwords",
		],
		[
			{ type: 9, messageNumber: 0, gpadl: 1, ranges: [2n ** 64n] },
			"GPADL_BODY: ranges[0]: expected a bigint below 2^64",
		],
		[{ type: 9, messageNumber: 0, gpadl: 1, ranges: 3 }, "GPADL_BODY: ranges: expected a list of bigints"],
		[{ ...VECTORS[3]?.[1], userData: new Uint8Array(119) }, "OPENCHANNEL: userData: expected 120 bytes"],
		[
			{ ...VECTORS[3]?.[1], eventFlag: 1 },
			"OPENCHANNEL: connectionId: expected a whole number below 2^32, not undefined",
		],
		[{ ...VECTORS[1]?.[1], featureFlags: undefined, monitorPages: [0, 0] }, "VERSION_RESPONSE: monitorPages: expected"],
		[{ ...VECTORS[1]?.[1], monitorPages: [0, 0] }, "VERSION_RESPONSE: monitorPages: expected nothing without its flag"],
		[
			{ ...VECTORS[0]?.[1], interruptPage: 0 },
			"INITIATE_CONTACT: interruptPage: expected nothing in version 6.0, not 0",
		],
		[{ type: 30 }, "there is no message of type 30"],
	] as [unknown, string][])("names the field that is wrong: %#", (message, text) => {
		expect(() => encodeMessage(message as unknown as Message)).toThrow(text);
	});
});

/** Guests that gave up before their first message. */
const WITHOUT_MESSAGES = ["iso_monitor_decrypt_fail.txt.gz", "iso_vbs_para.txt.gz"];

/** What a receiver says of the recorded messages that are malformed, or longer than their form, on purpose. */
const MALFORMED: Readonly<Record<string, readonly string[]>> = {
	malformed: [
		"1: 240 bytes where 196 do",
		"26: 12 bytes where 9 do",
		"2: bytes that are not a field's",
		"4: 108 bytes where 8 do",
		"short: 0 bytes, expected a header of 8",
		"short: 4 bytes, expected a header of 8",
		"short: GPADL_CREATED: 19 bytes, expected 20",
		"short: GPADL_TORNDOWN: 11 bytes, expected 12",
		"short: MODIFYCHANNEL_RESPONSE: 15 bytes, expected 16",
		"short: OFFERCHANNEL: 195 bytes, expected 196",
		"short: OPENCHANNEL_RESULT: 19 bytes, expected 20",
		"short: RESCIND_CHANNELOFFER: 11 bytes, expected 12",
		"short: VERSION_RESPONSE: 15 bytes, expected 16",
		"unknown-type: there is no message of type 0",
		"unknown-type: there is no message of type 257",
		"unknown-type: there is no message of type 4294967295",
		"wrong-direction: INITIATE_CONTACT: only the guest sends it",
		"wrong-direction: MODIFY_CONNECTION: only the guest sends it",
		"wrong-direction: OPENCHANNEL: only the guest sends it",
		"wrong-direction: OPEN_RESERVED_CHANNEL: only the guest sends it",
		"wrong-direction: REQUESTOFFERS: only the guest sends it",
		"wrong-direction: UNLOAD: only the guest sends it",
	],
	version_state_nonzero: ["15: 40 bytes where 20 do"],
};

function complaints(file: string): string[] {
	const found: string[] = [];
	let messages = 0;
	for (const line of recordingText(join(GOLDEN, file)).split("\n")) {
		const [direction, verb, ...args] = line.split(" ");
		if (verb !== "POST" && verb !== "MSG") continue;
		messages++;
		const payload = bytes((verb === "POST" ? args[2] : args[0]) ?? "");
		const result = decodeMessage(payload, { direction: direction === "G" ? "guest" : "server" });
		if (result instanceof DecodeError) found.push(`${result.error}: ${result.text}`);
		else if (hex(encodeMessage(result)) !== hex(payload)) {
			const { length } = encodeMessage(result);
			const what =
				length < payload.length ? `${payload.length} bytes where ${length} do` : "bytes that are not a field's";
			found.push(`${result.type}: ${what}`);
		}
	}
	expect(messages > 0 || WITHOUT_MESSAGES.includes(file), file).toBe(true);
	return found.sort();
}

describe("the recordings of Linux's guest", () => {
	const files = readdirSync(GOLDEN).filter((name) => name.endsWith(".txt.gz"));

	it.each(files)("decode and encode again to the same bytes, but for what is malformed on purpose: %s", (file) => {
		expect(complaints(file)).toEqual(MALFORMED[basename(file, ".txt.gz")] ?? []);
	});
});
