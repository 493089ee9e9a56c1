import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { DecodedField } from "../../src/vmbus/decode/decoded.ts";
import { describeBytes, describeMessage, describeSlot } from "../../src/vmbus/decode/message.ts";
import { describePacket } from "../../src/vmbus/decode/packet.ts";
import { type CapturedBytes, pcapng } from "../../src/vmbus/decode/pcapng.ts";
import { transcriptItems } from "../../src/vmbus/decode/transcript.ts";
import { DecodeError, decodeMessage } from "../../src/vmbus/wire/codec.ts";
import { type FieldSpec, MESSAGES, type MessageSpec } from "../../src/vmbus/wire/messages.ts";
import { coco, expectRefused, temporaryFile, temporaryFolder } from "../helpers/cli.ts";
import { printSeed, SEED } from "../helpers/random.ts";

printSeed("vmbus cli");
const GOLDEN = fileURLToPath(new URL("../golden/vmbus/", import.meta.url));
const PSEUDO_HEADER_BYTES = 16;
const hasTshark = spawnSync("tshark", ["--version"]).status === 0;

const CONTACT = "0e00000000000000 0000060000000000 0200000010000000 0010000000000000 0020000000000000";
const GPADL =
	"0800000000000000 01000000101e0e00 2800010000400000 0000000000020000 0000000001020000 0000000002020000 0000000003020000 00000000";
const IN_BAND = "0600020003000100 0700000000000000 68656c6c6f000000 0000000040000000";
const GPA_DIRECT = `090006000e000100 0100000000000000 0000000001000000 0010000000020000 0001000000000000 0101000000000000 ${"ab".repeat(64)} 0000000040000000`;
const TRANSFER =
	"0700050006000000 0000000000000000 0100000002000000 6400000000000000 c80000006f000000 0102030405060708";
const COMPLETION = "0b00020003000000 0700000000000000 0100000000000000";

const bytes = (text: string) => Uint8Array.from(Buffer.from(text.replaceAll(" ", ""), "hex"));
const short = ({ offset, bytes: size, name, value }: DecodedField) => `${offset} ${size} ${name} ${value}`;
const slotOf = (payload: string, flags = 0) => {
	const body = bytes(payload);
	const slot = new Uint8Array(256);
	slot.set([1, 0, 0, 0, body.length, flags]);
	slot.set(body, 16);
	return slot;
};

describe("a decoded message", () => {
	it("names each field with its offset, size, value and meaning", () => {
		const { title, fields, error } = describeMessage(bytes(CONTACT));
		expect([title, error]).toEqual(["INITIATE_CONTACT (14), guest to server", undefined]);
		expect(fields.map(short)).toEqual([
			"0 4 type 14",
			"8 4 version 0x60000",
			"12 4 targetVp 0",
			"16 1 sint 2",
			"17 1 vtl 0",
			"20 4 featureFlags 0x10",
			"24 8 monitorPages[0] 0x1000",
			"32 8 monitorPages[1] 0x2000",
		]);
		expect(fields.map(({ meaning }) => meaning)).toContain("ConfidentialChannels");
	});

	it("tells the ranges of a GPADL, and that the rest of them comes in bodies", () => {
		expect(describeMessage(bytes(GPADL)).fields.map(short)).toEqual([
			"0 4 type 8",
			"8 4 relid 1",
			"12 4 gpadl 0xe1e10",
			"16 2 rangeBytes 40",
			"18 2 rangeCount 1",
			"20 8 range 16384 bytes from offset 0",
			"28 32 pfns 0x200..0x203",
		]);
	});

	it("shows what is there of one that is malformed, and why a receiver refuses it", () => {
		const cut = describeMessage(bytes(CONTACT).subarray(0, 22), { direction: "guest" });
		expect(cut.error).toBe("INITIATE_CONTACT: 22 bytes, expected 40");
		expect(cut.fields.map(short)).toEqual([
			"0 4 type 14",
			"8 4 version 0x60000",
			"12 4 targetVp 0",
			"16 1 sint 2",
			"17 1 vtl 0",
			"18 4 after the fields 00001000",
		]);
		expect(describeMessage(bytes(CONTACT), { direction: "server" }).error).toBe(
			"INITIATE_CONTACT: only the guest sends it",
		);
		expect(describeMessage(bytes(GPADL).subarray(0, 18)).fields.map(short).slice(-1)).toEqual(["16 2 rangeBytes 40"]);
		expect(describeMessage(bytes("0102")).error).toContain("expected a header of 8");
		expect(describeMessage(new Uint8Array(0)).fields).toEqual([]);
	});

	it("shows reserved bytes only when they are not zero", () => {
		const odd = bytes(CONTACT);
		odd[5] = 1;
		odd[18] = 2;
		const { fields } = describeMessage(new Uint8Array([...odd, 9]));
		const named = fields.filter(({ meaning }) => meaning === "not zero").map(short);
		expect(named).toEqual(["4 4 padding 00010000", "18 2 reserved 0200", "40 1 after the fields 09"]);
	});
});

describe("a decoded slot", () => {
	it("shows its header, then the message with offsets in the slot", () => {
		const { title, fields } = describeSlot(slotOf("0c0000000000000007000000", 1));
		expect(title).toBe("message slot: GPADL_TORNDOWN (12), server to guest");
		expect(fields.map(short)).toEqual([
			"0 4 messageType 0x1",
			"4 1 payloadSize 12",
			"5 1 messageFlags 0x1",
			"8 8 sender 0x0",
			"16 4 type 12",
			"24 4 gpadl 0x7",
		]);
	});

	it("says when the size is beyond the slot, or the type is none of VMBus's", () => {
		const slot = slotOf("0c0000000000000007000000");
		slot[4] = 241;
		expect(describeSlot(slot).error).toBe("payload size 241, expected at most 240");
		expect(() => describeSlot(slot.subarray(1))).toThrow("slot: expected 256 bytes, not 255");
		slot.set([0x10, 0, 0, 0x80, 24]);
		expect(describeSlot(slot)).toMatchObject({ title: "message slot, type 0x80000010" });
		expect(describeSlot(slot).error).toBeUndefined();
	});
});

describe("a decoded ring packet", () => {
	it.each([
		[
			"in-band data",
			IN_BAND,
			[
				"0 2 type 6",
				"2 2 offset8 2",
				"4 2 len8 3",
				"6 2 flags 0x1",
				"8 8 transactionId 7",
				"16 8 payload 68656c6c6f000000",
				"28 4 trailer 0x40",
			],
		],
		[
			"data by GPA direct",
			GPA_DIRECT,
			[
				"0 2 type 9",
				"2 2 offset8 6",
				"4 2 len8 14",
				"6 2 flags 0x1",
				"8 8 transactionId 1",
				"20 4 rangeCount 1",
				"24 8 range[0] 4096 bytes from offset 512",
				"32 16 pfns 0x100 0x101",
				`48 64 payload ${"ab".repeat(64)}`,
				"116 4 trailer 0x40",
			],
		],
		[
			"data in transfer pages",
			TRANSFER,
			[
				"0 2 type 7",
				"2 2 offset8 5",
				"4 2 len8 6",
				"6 2 flags 0x0",
				"8 8 transactionId 0",
				"16 2 transferSet 0x1",
				"18 1 senderOwnsSet 0",
				"20 4 rangeCount 2",
				"24 8 range[0] 100 bytes from offset 0",
				"32 8 range[1] 200 bytes from offset 111",
				"40 8 payload 0102030405060708",
			],
		],
		[
			"completion",
			COMPLETION,
			[
				"0 2 type 11",
				"2 2 offset8 2",
				"4 2 len8 3",
				"6 2 flags 0x0",
				"8 8 transactionId 7",
				"16 8 payload 0100000000000000",
			],
		],
	])("of %s shows descriptor, ranges, payload and trailer", (name, hex, fields) => {
		const decoded = describeBytes(bytes(hex));
		expect(decoded.title).toBe(`ring packet: ${name}`);
		expect(decoded.error).toBeUndefined();
		expect(decoded.fields.map(short)).toEqual(fields);
	});

	it("is malformed when its ranges do not fit, there are none, or it is cut and no recording", () => {
		const change = (hex: string, at: number, value: number) => {
			const copy = bytes(hex);
			new DataView(copy.buffer).setUint32(at, value, true);
			return describePacket(copy).error;
		};
		expect(change(GPA_DIRECT, 20, 2)).toContain("2 ranges do not fit");
		expect(change(GPA_DIRECT, 24, 0xffffffff)).toContain("do not fit before the payload");
		expect(change(GPA_DIRECT, 20, 0)).toBe("no range");
		expect(change(TRANSFER, 20, 0xffffffff)).toContain("do not fit");
		expect(change(IN_BAND, 0, 0x00010006)).toBe("payload at 8 of a packet of 24 bytes");
		const cut = bytes(GPA_DIRECT).subarray(0, 48);
		expect([describePacket(cut).error, describePacket(cut, true).error]).toEqual(["48 of 112 bytes", undefined]);
		expect(describePacket(new Uint8Array(15)).error).toContain("expected a descriptor of 16");
	});
});

describe("decoding anything", () => {
	it("never throws, and every field starts in the bytes", () => {
		const start = fc.constantFrom(...[CONTACT, GPADL, IN_BAND, GPA_DIRECT, TRANSFER].map(bytes), new Uint8Array(0));
		const any = fc
			.tuple(start, fc.nat(300), fc.array(fc.tuple(fc.nat(299), fc.nat(255)), { maxLength: 6 }))
			.map(([from, length, changes]) => {
				const out = new Uint8Array(length);
				out.set(from.subarray(0, length));
				for (const [at, value] of changes) if (at < length) out[at] = value;
				return out;
			});
		fc.assert(
			fc.property(any, fc.boolean(), (raw, mayBeCut) => {
				for (const { offset, bytes: size } of describeMessage(raw).fields)
					expect(offset + size).toBeLessThanOrEqual(raw.length);
				for (const { offset } of [...describeBytes(raw).fields, ...describePacket(raw, mayBeCut).fields])
					expect(offset).toBeLessThanOrEqual(raw.length);
				if (raw.length >= 256) describeSlot(raw.subarray(0, 256));
			}),
			{ seed: SEED, numRuns: 3000 },
		);
	});
});

describe("coco-dma vmbus decode", () => {
	it("prints a message one field a line", async () => {
		const { code, out, err } = await coco("vmbus", "decode", CONTACT);
		expect([code, err]).toEqual([0, ""]);
		expect(out.split("\n")[0]).toBe("INITIATE_CONTACT (14), guest to server, 40 bytes");
		expect(out).toMatch(/^ {4}20 {5}4 {2}featureFlags +0x10 +ConfidentialChannels$/m);
		expect((await coco("vmbus", "decode", `0x${CONTACT.replaceAll(" ", "")}`)).out).toBe(out);
		expect((await coco("vmbus", "decode", ...CONTACT.split(" "))).out).toBe(out);
	});

	it("takes files of hex, plain and packed, and several at once", async () => {
		const plain = temporaryFile("packet.hex", `${IN_BAND.replaceAll(" ", "\n")}\n`);
		const packed = temporaryFile("slot.hex.gz", gzipSync(Buffer.from(slotOf("1100000000000000")).toString("hex")));
		const { code, out } = await coco("vmbus", "decode", plain, packed, CONTACT);
		expect(code).toBe(0);
		for (const title of [
			"ring packet: in-band data, 32 bytes",
			"message slot: UNLOAD_RESPONSE (17)",
			"INITIATE_CONTACT",
		])
			expect(out).toContain(title);
	});

	it("decodes every message and packet of a transcript, with its line", async () => {
		const file = join(GOLDEN, "gpa_direct.txt.gz");
		const { code, out } = await coco("vmbus", "decode", file);
		expect(code).toBe(0);
		const lines = gunzipSync(readFileSync(file)).toString().split("\n");
		const expected = lines.flatMap((line, i) =>
			/^[GH] (POST|MSG|PKTOUT|PKTIN) /.test(line) ? [`${i + 1}: ${line.split(" ")[1]}`] : [],
		);
		const found = [...out.matchAll(/^.*gpa_direct\.txt\.gz:(\d+: \w+) /gm)].map((match) => match[1]);
		expect(found).toEqual(expected);
		expect(out).toContain("POST connection 0x4 by hc\nINITIATE_CONTACT");
		expect(out).not.toContain("malformed");
	});

	it("says which messages are malformed, and exits with 1", async () => {
		const { code, out } = await coco("vmbus", "decode", join(GOLDEN, "malformed.txt.gz"));
		expect(code).toBe(1);
		expect(out).toContain("  malformed: OFFERCHANNEL: 195 bytes, expected 196\n");
		expect(out).toContain("  malformed: payload size 241, expected at most 240\n");
	});

	it("checks the version when it is told one", async () => {
		const modify = "18000000000000000100000000000000";
		expect((await coco("vmbus", "decode", modify, "--version", "5.3")).code).toBe(0);
		const { code, out } = await coco("vmbus", "decode", modify, "--version", "5.2");
		expect(code).toBe(1);
		expect(out).toContain("needs version 5.3, the connection has 5.2");
		expectRefused(await coco("vmbus", "decode", modify, "--version", "5.9"), "--version", "5.9", "5.3, 6.0");
	});

	it("writes JSON alone with --json", async () => {
		const { out } = await coco("vmbus", "decode", IN_BAND, "--json", "-");
		const { command, items } = JSON.parse(out);
		expect(command).toBe("vmbus decode");
		expect(items).toHaveLength(1);
		expect(items[0]).toMatchObject({ kind: "packet", title: "ring packet: in-band data", bytes: 32 });
		expect(items[0].fields[4]).toEqual({ offset: 8, bytes: 8, name: "transactionId", value: "7", meaning: "" });
	});

	it("explains itself", async () => {
		for (const args of [["--help"], ["decode", "--help"]]) {
			const { code, out } = await coco("vmbus", ...args);
			expect(code).toBe(0);
			expect(out).toMatch(/^Usage: coco-dma vmbus decode HEX\.\.\.\|FILE/);
		}
	});

	it("refuses what is no hex, no file and no transcript in one line", async () => {
		expectRefused(await coco("vmbus"), "expected decode");
		expectRefused(await coco("vmbus", "encode"), 'unknown command "encode"');
		expectRefused(await coco("vmbus", "decode"), "HEX or a FILE");
		expectRefused(await coco("vmbus", "decode", "012"), "pairs", "3 digits");
		expectRefused(await coco("vmbus", "decode", "01 0g"), "digit 4", '"g"');
		expectRefused(await coco("vmbus", "decode", ""), "found none");
		expectRefused(await coco("vmbus", "decode", "no/such.file"), "no/such.file: no such file");
		expectRefused(await coco("vmbus", "decode", "--frobnicate"), "--frobnicate");
		expectRefused(await coco("vmbus", "decode", temporaryFolder()), "is a folder");
		expectRefused(await coco("vmbus", "decode", temporaryFile("x", "hello")), "/x: expected hex digits");
		expectRefused(await coco("vmbus", "decode", CONTACT, "--pcapng", "/no/such/folder/x"), "/no/such/folder");
		expectRefused(await coco("vmbus", "decode", CONTACT, "--pcapng", "-"), "--pcapng");
		const hello = "G HELLO hvguest 1\n";
		for (const [line, field] of [
			["G POST 4 1 0e0 hc", "pairs"],
			["G POST zz 1 0e00 hc", "connection id"],
			["G POST 4 1 0e00 by", "path"],
			["G POST 4 1", "end of line"],
			["H MSG 0x", "none"],
			["H HVMSG 0100", "256 bytes"],
			["H MSG 00 -1", "cpu"],
			["G PKTOUT x at=0 00", "relid"],
			["G PKTIN 1 head=0", "pairs"],
		] as const) {
			const file = temporaryFile("bad.txt", `${hello}${line}\n`);
			expectRefused(await coco("vmbus", "decode", file), "bad.txt:2", field);
		}
		for (const [name, text, ...what] of [
			["garbage", `${hello}\u0001\u0002garbage\nG MSSG zz\nG END\n`, "garbage:2: line: expected G, H, C or S"],
			["cut", `${hello}G POST 4 1 0300000000000000 hc\nH RET`, 'cut: expected a last line "G END', "ends early"],
			["hello", hello, 'hello: expected a last line "G END'],
			["empty", `${hello}C connect\nG END proto=0\n`, "empty: expected messages or packets", "found none"],
			["long", `${hello}${"x".repeat(100_000)}\nG END\n`, "long:2: line: expected", "..."],
		] as const)
			expectRefused(await coco("vmbus", "decode", temporaryFile(name, text)), ...what);
	});
});

interface Block {
	type: number;
	body: Buffer;
}

/** A reader of pcapng, from its specification: blocks with their lengths checked at both ends. */
function blocks(file: Uint8Array): Block[] {
	const data = Buffer.from(file);
	const list: Block[] = [];
	for (let at = 0; at < data.length; ) {
		const length = data.readUInt32LE(at + 4);
		expect(length % 4).toBe(0);
		expect(at + length).toBeLessThanOrEqual(data.length);
		expect(data.readUInt32LE(at + length - 4)).toBe(length);
		list.push({ type: data.readUInt32LE(at), body: data.subarray(at + 8, at + length - 4) });
		at += length;
	}
	return list;
}

function options(body: Buffer, from: number): Map<number, Buffer> {
	const found = new Map<number, Buffer>();
	for (let at = from; ; ) {
		const [code, length] = [body.readUInt16LE(at), body.readUInt16LE(at + 2)];
		if (code === 0) return found;
		found.set(code, body.subarray(at + 4, at + 4 + length));
		at += 4 + ((length + 3) & ~3);
	}
}

describe("the capture file", () => {
	const event: CapturedBytes = {
		kind: "hypercall",
		from: "guest",
		bytes: Uint8Array.of(1, 2, 3, 4, 5),
		timeNs: 0x1_2345_6789n,
		vp: 7,
		path: "ghcb",
		synic: "paravisor",
		id: 0x2001,
		status: 0x12,
		trusted: true,
		memory: "private",
	};

	it("is a section, an interface of link type USER0 in nanoseconds, and a packet an event", () => {
		const [section, description, packet, last, ...more] = blocks(
			pcapng([event, { kind: "message", from: "server", bytes: new Uint8Array(8), timeNs: 0n }]),
		) as [Block, Block, Block, Block];
		expect(more).toEqual([]);
		expect([section.type, section.body.readUInt32LE(0)]).toEqual([0x0a0d0d0a, 0x1a2b3c4d]);
		expect(section.body.readBigInt64LE(8)).toBe(-1n);
		expect([description.type, description.body.readUInt16LE(0)]).toEqual([1, 147]);
		expect(options(description.body, 8).get(9)).toEqual(Buffer.of(9));
		expect(packet.type).toBe(6);
		const time = (BigInt(packet.body.readUInt32LE(4)) << 32n) | BigInt(packet.body.readUInt32LE(8));
		expect(time).toBe(event.timeNs);
		expect([packet.body.readUInt32LE(12), packet.body.readUInt32LE(16)]).toEqual([21, 21]);
		const header = packet.body.subarray(20, 20 + PSEUDO_HEADER_BYTES);
		expect(header.toString("hex")).toBe("01030202" + "07000000" + "01200000" + "1200" + "0202");
		expect(packet.body.subarray(36, 41)).toEqual(Buffer.of(1, 2, 3, 4, 5));
		expect(last.body.subarray(20, 36).toString("hex")).toBe("01010100000000000000000000000000");
	});

	it("of a transcript holds its messages and packets, in order", async () => {
		const out = join(temporaryFolder(), "x.pcapng");
		const file = join(GOLDEN, "ring_wrap_full.txt.gz");
		expect((await coco("vmbus", "decode", file, "--pcapng", out)).code).toBe(0);
		const recorded = [...transcriptItems(file, gunzipSync(readFileSync(file)).toString())];
		const packets = blocks(readFileSync(out)).slice(2);
		expect(packets.map(({ body }) => body.subarray(36, 20 + body.readUInt32LE(12)).toString("hex"))).toEqual(
			recorded.map((item) => Buffer.from(item.bytes).toString("hex")),
		);
	});
});

/** Fields of a row of messages.ts as the dissector's table writes them. */
function dissectorFields(fields: Readonly<Record<string, FieldSpec>>, size = 0): string[] {
	return Object.entries(fields).flatMap(([name, { at, kind, from, below }]) => {
		const rest = `${size > 0 ? ` size ${size}` : ""}${from === undefined ? "" : ` from ${from}`}${below === undefined ? "" : ` below ${below}`}`;
		if (kind === "gpaPair") return [`${at} u64 ${name}${rest}`, `${at + 8} u64 ${name}${rest}`];
		if (kind === "gpa") return [`${at} u64 ${name}${rest}`];
		return [`${at} ${kind} ${name === "sint" && kind === "u32" ? "sint32" : name}${rest}`];
	});
}

describe("the Wireshark dissector", () => {
	it("knows every message as the table has it", async () => {
		const { code, out: text } = await coco("vmbus", "dissector");
		expect(code).toBe(0);
		const table = text.slice(text.indexOf("local MESSAGES"), text.indexOf("local KINDS"));
		const rows = table.split(/\n\t\[/).slice(1);
		const found = rows.map((row) => {
			const [, type, wire, size] = /^(\d+)\] = \{ "(\w+)", (\d+),/.exec(row) as RegExpExecArray;
			const fields = [...row.matchAll(/\{ (\d+), "(\w+)", "(\w+)"((?:, \w+ = \w+)*) \}/g)].map((match) => {
				const rest = (match[4] as string).replaceAll(",", "").replaceAll(" =", "");
				return `${match[1]} ${match[2]} ${match[3]}${rest}`;
			});
			return { type: Number(type), wire, bytes: Number(size), fields };
		});
		const expected = Object.values<MessageSpec>(MESSAGES).map(({ type, wire, bytes: size, fields, extensions }) => ({
			type,
			wire,
			bytes: size,
			fields: [
				...dissectorFields(fields),
				...extensions.flatMap((extension) => dissectorFields(extension.fields, extension.bytes)),
			],
		}));
		expect(found).toEqual(expected);
	});

	/** What tshark shows of a capture: one list of fields a packet. */
	async function dissected(file: string, fields: readonly string[]): Promise<string[][]> {
		const script = join(temporaryFolder(), "vmbus.lua");
		writeFileSync(script, (await coco("vmbus", "dissector")).out);
		const args = ["-X", `lua_script:${script}`, "-r", file, "-T", "fields", ...fields.flatMap((name) => ["-e", name])];
		const done = spawnSync("tshark", args, { encoding: "utf8", maxBuffer: 2 ** 28 });
		expect(done.status).toBe(0);
		return done.stdout
			.replace(/\n$/, "")
			.split("\n")
			.map((line) => line.split("\t"));
	}

	it.skipIf(!hasTshark)("shows in tshark what the codec reads of Linux's messages and packets", async () => {
		const out = join(temporaryFolder(), "x.pcapng");
		const names = [
			"offer_flags",
			"gpadl_sizes",
			"hvsock",
			"modify_channel",
			"soak_2",
			"iso_snp_para",
			"ring_wrap_full",
		];
		const files = names.map((name) => join(GOLDEN, `${name}.txt.gz`));
		await coco("vmbus", "decode", ...files, "--pcapng", out);
		const items = files.flatMap((file) => [...transcriptItems(file, gunzipSync(readFileSync(file)).toString())]);
		const shown = ["version", "gpadl", "status", "relid", "interfaceId", "flags", "targetVp"];
		const rows = await dissected(out, [
			...["vmbus.kind", "vmbus.to_guest", "vmbus.type", "vmbus.packet.type", "vmbus.packet.transaction"],
			...shown.map((name) => `vmbus.msg.${name}`),
			"vmbus.pfn",
		]);
		expect(rows).toHaveLength(items.length);
		let pfns = 0;
		for (const [i, item] of items.entries()) {
			const [kind, toGuest, type, packetType, transaction, ...values] = rows[i] as string[];
			expect(toGuest === "1" || toGuest === "True").toBe(item.from === "server");
			if (item.verb.startsWith("PKT")) {
				const data = Buffer.from(item.bytes);
				expect([kind, Number(packetType), BigInt(transaction as string)]).toEqual([
					"2",
					data.readUInt16LE(0),
					data.readBigUInt64LE(8),
				]);
				continue;
			}
			const message = decodeMessage(item.bytes);
			if (message instanceof DecodeError) throw new Error(message.text);
			expect([kind, type]).toEqual(["1", String(message.type)]);
			const read = message as unknown as Record<string, unknown>;
			for (const [k, name] of shown.entries()) {
				const value = read[name];
				const text = values[k] as string;
				expect(typeof value === "number" ? Number(text) : text, name).toEqual(value ?? "");
			}
			const listed = (values[shown.length] ?? "").split(",").filter((text) => text !== "");
			const ranges = (read.ranges as bigint[] | undefined) ?? [];
			const pages = message.type === MESSAGES.GpadlHeader.type ? ranges.slice(1) : ranges;
			expect(listed.map(BigInt)).toEqual(pages);
			pfns += listed.length;
		}
		expect(pfns).toBeGreaterThan(100);
	});

	it.skipIf(!hasTshark)("reads slots and hypercalls, and calls malformed what is", async () => {
		const input = new Uint8Array(256);
		input.set([4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 40]);
		input.set(bytes(CONTACT), 16);
		const base = { from: "guest", timeNs: 0n } as const;
		const file = temporaryFile(
			"x.pcapng",
			pcapng([
				{ ...base, kind: "hypercall", bytes: input, path: "tdcall", trusted: true, vp: 3, id: 4, status: 19 },
				{ ...base, kind: "slot", bytes: slotOf("0c0000000000000007000000"), synic: "paravisor" },
				{ ...base, kind: "message", bytes: bytes("0500000000000000") },
				{ ...base, kind: "packet", bytes: bytes(GPA_DIRECT).subarray(0, 40), id: 9 },
				{ ...base, kind: "packet", bytes: bytes("0600ffff0000000000000000000000") },
				{ ...base, kind: "message", bytes: new Uint8Array(0) },
			]),
		);
		const rows = await dissected(file, [
			"_ws.col.Info",
			"vmbus.path",
			"vmbus.vp",
			"vmbus.hv_status",
			"_ws.expert.message",
		]);
		expect(rows).toEqual([
			["HvPostMessage INITIATE_CONTACT", "3", "3", "19", ""],
			["GPADL_TORNDOWN gpadl 0x7", "0", "0", "", ""],
			["OPENCHANNEL", "0", "0", "", "shorter than its type"],
			["relid 9: GPA direct, 112 bytes", "0", "0", "", "page numbers do not fit"],
			["relid 0: short packet", "0", "0", "", "shorter than a descriptor"],
			[expect.any(String), "0", "0", "", "no bytes"],
		]);
	});
});
