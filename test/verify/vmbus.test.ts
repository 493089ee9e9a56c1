import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { InputError } from "../../src/input-error.ts";
import { verifyFile } from "../../src/node/input.ts";
import { payloadOf } from "../../src/verify/vmbus/payload.ts";
import { recordingText } from "../helpers/golden.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";
import { bySuite } from "../helpers/suite.ts";

const FOLDER = new URL("../golden/vmbus/", import.meta.url).pathname;
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith(".txt.gz"));
const folder = mkdtempSync(join(tmpdir(), "vmbus-"));
afterAll(() => rmSync(folder, { recursive: true }));
let written = 0;

const textOf = (name: string) => recordingText(join(FOLDER, `${name}.txt.gz`));

function verifyText(text: string) {
	const path = join(folder, `vmbus${written++}.txt`);
	writeFileSync(path, text);
	return verifyFile(path);
}

/** Verifies a transcript with the `nth` line that matches changed. */
function changed(text: string, pattern: RegExp, change: (line: string) => string | string[], nth = 0) {
	const lines = text.split("\n");
	const at = lines.map((line, i) => (pattern.test(line) ? i : -1)).filter((i) => i >= 0)[nth] as number;
	expect(at).toBeGreaterThan(0);
	const after = [change(lines[at] as string)].flat();
	expect(after.join("\n")).not.toBe(lines[at]);
	lines.splice(at, 1, ...after);
	return { line: at + 1, result: verifyText(lines.join("\n")) };
}

describe("transcripts of Linux 6.12's guest driver", () => {
	it("has 68 to verify", () => {
		expect(FILES.length).toBe(68);
	});

	it.each(FILES)("%s: our guest does the same", async (name) => {
		const result = await verifyFile(join(FOLDER, name));
		expect(result.summary).toContain("identical");
		expect(result).toMatchObject({ format: "vmbus", identical: true });
	});

	it("sums a transcript up in one line, guest and server", async () => {
		const { summary } = await verifyFile(join(FOLDER, "subchannels.txt.gz"));
		expect(summary).toMatch(
			/^subchannels: guest: 27 posts, 1 signals, 1 packets out, 11 results identical; server: 27 posts, 29 messages/,
		);
	});

	it("verifies the guest alone where the host misbehaves", async () => {
		const { summary } = await verifyFile(join(FOLDER, "hostile_ring.txt.gz"));
		expect(summary).toMatch(/^hostile_ring: guest: 26 posts/);
		expect(summary).not.toContain("server");
	});

	it("believes an index beside the file that says so", async () => {
		const text = textOf("connect_5_3");
		expect((await verifyText(text)).summary).toContain("server");
		writeFileSync(join(folder, "INDEX.tsv"), `name\tserver\nvmbus${written}\tspecial\n`);
		expect((await verifyText(text)).summary).not.toContain("server");
	});

	it("makes the payloads that the recorder made of its seeds", () => {
		expect(Buffer.from(payloadOf(1, 8)).toString("hex")).toBe("7235548658c86f6c");
		expect(Buffer.from(payloadOf(1000, 4)).toString("hex")).not.toBe(Buffer.from(payloadOf(1, 4)).toString("hex"));
	});
});

describe("transcripts of what the recordings beside these show", () => {
	const offers = textOf("offers_5");
	const [contact, offered] = [/^G POST 4 .*$/m.exec(offers)?.[0] as string, offers.match(/^H MSG 01.*$/gm) as string[]];

	/** The transcript with more lines before the last command; its host is no example for a server. */
	function longer(lines: readonly string[], text = offers): string {
		const at = text.indexOf("C unload");
		const end = text
			.slice(at)
			.replace("RES 3 unload", `RES ${3 + lines.filter((line) => line.startsWith("C ")).length} unload`);
		return `${text.slice(0, at)}S act made by hand\n${lines.join("\n")}\n${end}`;
	}

	const suspend = [
		"C suspend",
		"G POST 1 1 1000000000000000 hc",
		"H RET 0",
		"H MSG 1100000000000000",
		"G RES 3 suspend 0",
	];
	const resume = [
		"C resume",
		contact,
		"H RET 0",
		"H MSG 0f000000000000000100000001000000",
		"G POST 1 1 0300000000000000 hc",
		"H RET 0",
	];

	it.each([
		["all channels come back", [...offered, "G RES 4 resume 0"]],
		["one comes after the time that Linux waits", [...offered.slice(1), "G RES 4 resume 0", offered[0] as string]],
	])("verifies a resume where %s", async (_, lines) => {
		expect((await verifyText(longer([...suspend, ...resume, ...lines]))).divergence).toBeUndefined();
	});

	// the first offer, with monitor 70 allotted
	const monitored = offers.replace(offered[0] as string, (line) => line.replace(/ff0001000120/, "460101000120"));
	const ring =
		"w=0 r=0 mask=0 pend=0 feat=1 size=1000 data=ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7";

	/** Channel 1 opens as command `number`, its ring as GPADL 0xe1e00 + `gpadl`; and it closes. */
	function opens(number: number, gpadl: number, options = ""): string[] {
		const pfns = [0x110, 0x111, 0x112, 0x113].map((pfn) => `${pfn.toString(16).slice(1)}01000000000000`).join("");
		const handle = `${gpadl.toString(16)}1e0e00`;
		return [
			`C open 1 2 2${options}`,
			`G POST 1 1 080000000000000001000000${handle}280001000040000000000000${pfns} hc`,
			"H RET 0",
			`H MSG 0a0000000000000001000000${handle}00000000`,
			`G POST 1 1 05000000000000000100000001000000${handle}0000000002000000${"00".repeat(120)} hc`,
			"H RET 0",
			"H MSG 0600000000000000010000000100000000000000",
			`G RING 1 out opened ${ring}`,
			`G RING 1 in opened ${ring}`,
			`G RES ${number} open 0`,
		];
	}

	function closes(number: number, gpadl: number): string[] {
		const handle = `${gpadl.toString(16)}1e0e00`;
		return [
			"C close 1",
			"G POST 1 1 070000000000000001000000 hc",
			"H RET 0",
			`G POST 1 1 0b0000000000000001000000${handle} hc`,
			"H RET 0",
			`H MSG 0c00000000000000${handle}`,
			`G RES ${number} close 0`,
		];
	}

	it("verifies a driver whose ids and packet size outlive an open, and whose latency and callback do not", async () => {
		const packet = (id: string, seed: string) => `0600020003000100${id}${seed}0000000000000000`;
		const lines = [
			...opens(3, 0x10, " rq=4 maxpkt=64 mode=isr lowlat"),
			"C send 1 8 1 9 1",
			"G SIGNAL 2001 0 hc",
			`G PKTOUT 1 at=0 next=20 ${packet("0100000000000000", "7235548658c86f6c")}`,
			"G RES 4 send 0 trans_id=9",
			...closes(5, 0x10),
			...opens(6, 0x11),
			"C send 1 8 1 9 1",
			"G BITSET 10c800 1",
			"G BITSET 10e018 6",
			`G PKTOUT 1 at=0 next=20 ${packet("0100000000000000", "7235548658c86f6c")}`,
			"G RES 7 send 0 trans_id=9",
		];
		expect((await verifyText(longer(lines, monitored))).divergence).toBeUndefined();
		const forgets = lines.map((line) => line.replace(/^(G PKTOUT .*)0100000000000000(72)/, "$10900000000000000$2"));
		expect((await verifyText(longer(forgets, monitored))).divergence?.what).toBe("PKTOUT");
		const keeps = lines.flatMap((line) => (line.endsWith(" lowlat") ? [line.slice(0, -" lowlat".length)] : [line]));
		expect((await verifyText(longer(keeps, monitored))).divergence).toMatchObject({ got: "BITSET ...800 1" });
	});

	it("takes a driver for bound from its first good open: until then there is none to unbind", async () => {
		const buffer = (number: number, handle: string) => [
			"C gpadl 1 1 v",
			`G POST 1 1 080000000000000001000000${handle}1000010000100000000000001001000000000000 hc`,
			"H RET 0",
			`H MSG 0a0000000000000001000000${handle}00000000`,
			`G RES ${number} gpadl 0`,
		];
		const end = "G POST 1 1 0b0000000000000001000000111e0e00 hc";
		const unbind = (number: number, posts: readonly string[]) => ["C unbind 1", ...posts, `G RES ${number} unbind 0`];
		const never = [...buffer(3, "101e0e00"), ...unbind(4, [])];
		expect((await verifyText(longer(never))).divergence).toBeUndefined();
		const once = [...opens(3, 0x10), ...buffer(4, "111e0e00"), ...closes(5, 0x10)];
		const torn = [end, "H RET 0", "H MSG 0c00000000000000111e0e00"];
		expect((await verifyText(longer([...once, ...unbind(6, torn)]))).divergence).toBeUndefined();
		expect((await verifyText(longer([...once, ...unbind(6, [])]))).divergence?.got).toMatch(/^POST .*GPADL_TEARDOWN/);
	});

	it("verifies bits that are set in place of signals", async () => {
		const text = monitored;
		const lines = [
			...opens(3, 0x10),
			"C send 1 8 0 1 1",
			"G BITSET 10c800 1",
			"G BITSET 10e018 6",
			"G PKTOUT 1 at=0 next=20 060002000300000001000000000000007235548658c86f6c0000000000000000",
			"G RES 4 send 0 trans_id=1",
		];
		expect((await verifyText(longer(lines, text))).divergence).toBeUndefined();
		const other = lines.map((line) => line.replace("BITSET 10e018 6", "BITSET 10e010 6"));
		expect((await verifyText(longer(other, text))).divergence?.what).toBe("BITSET");
		expect((await verifyText(longer(lines))).divergence).toMatchObject({ what: "BITSET", got: "SIGNAL 2001 0 hc" });
	});
});

describe("a transcript that says something else", () => {
	const rescind = textOf("rescind_open");
	const isolated = textOf("iso_snp_para");

	it("diverges at a field of a message, both sides decoded", async () => {
		const { line, result } = changed(rescind, /^G POST 1 1 05/, (text) =>
			text.replace(/^(G POST 1 1 05.{14})05/, "$109"),
		);
		const { identical, divergence, summary } = await result;
		expect(identical).toBe(false);
		expect(divergence).toMatchObject({ line, what: "POST" });
		expect(divergence?.expected).toMatch(/OPENCHANNEL \(5\) relid=9 openId=5/);
		expect(divergence?.got).toMatch(/OPENCHANNEL \(5\) relid=5 openId=5/);
		expect(summary).toContain(`line ${line}: POST: expected connection 1`);
	});

	it.each([
		["connection", /^G POST 1 1 05/, (text: string) => text.replace("POST 1", "POST 4")],
		["number of page numbers", /^G POST 1 1 09/, (text: string) => text.replace(/.{16} hc$/, " hc")],
		["signal", /^G SIGNAL/, (text: string) => text.replace("2005", "2006")],
		["packet", /^G PKTOUT/, (text: string) => text.replace("c4124f31", "c4124f32")],
		["result", /^G RES 1 open/, (text: string) => text.replace("open 0", "open -5")],
		["message that is not posted", /^G SIGNAL/, (text: string) => [text, text]],
	])("diverges at another %s", async (_, pattern, change) => {
		const { line, result } = changed(rescind, pattern, change as (line: string) => string);
		const { divergence } = await result;
		expect(divergence?.line).toBeGreaterThanOrEqual(line);
		expect(divergence?.line).toBeLessThanOrEqual(line + 1);
	});

	it("diverges where the recorded guest did nothing, or more", async () => {
		const { line, result } = changed(rescind, /^G POST 1 1 0d/, () => []);
		expect((await result).divergence).toMatchObject({ line, what: "POST" });
		const more = changed(rescind, /^G RES 5 list/, (text) => [text, "G SIGNAL 2001 0 hc"]);
		expect((await more.result).divergence).toMatchObject({ line: more.line + 1, got: "nothing" });
	});

	it("diverges at a conversion, a packet in and a ring that differ", async () => {
		const pages = changed(isolated, /^G DECRYPT 110000 8/, (text) => text.replace(" 8", " 9"));
		expect((await pages.result).divergence?.what).toMatch(/DECRYPT|POST/);
		const packet = changed(isolated, /^G PKTIN/, (text) => text.replace("64617461", "64617462"));
		expect((await packet.result).divergence).toMatchObject({ line: packet.line, what: "PKTIN" });
		const ring = changed(isolated, /^G RING 2 in now/, (text) => text.replace("mask=0", "mask=1"));
		expect((await ring.result).divergence).toMatchObject({ line: ring.line, what: "RING" });
	});

	it("gives GPADL handles and pages free", async () => {
		const renamed = rescind
			.replace(/(POST 1 1 0[89b][0-9a-f]{22,30}?)101e0e00/g, "$100abcd00")
			.replace(/(POST 1 1 05[0-9a-f]{30})101e0e00/g, "$100abcd00")
			.replace(/(H MSG 0a[0-9a-f]{22})101e0e00/g, "$100abcd00");
		expect(renamed).toContain("00abcd00");
		const lines = renamed
			.split("\n")
			.map((line) =>
				line.replace(/^(G POST 1 1 08.{54})(.*)( hc)$/, (_, head, pfns, tail) => head + pfns.replace(/1/g, "2") + tail),
			);
		expect((await verifyText(lines.join("\n"))).summary).toMatch(/guest: .*identical|server:/);
	});
});

describe("a file that is no transcript", () => {
	const text = textOf("connect_5_3");
	const refused = async (bad: string, message: RegExp) => {
		const error = await verifyText(bad).then(
			() => new Error("was accepted"),
			(error: unknown) => error as Error,
		);
		expect(error).toBeInstanceOf(InputError);
		expect(error.message).toMatch(message);
		expect(error.message).not.toContain("\n");
	};

	it.each([
		["ends early", text.slice(0, text.indexOf("C unload")), /the file ends early/],
		["has a line of no known form", text.replace("C list", "X list"), /:\d+: line: expected G, H, C or S/],
		["has a command that is not known", text.replace("C list", "C dance"), /:\d+: command: expected a known command/],
		["has a post without a status", text.replace("H RET 0\n", ""), /expected "H RET"/],
		[
			"has bytes that are no hex",
			text.replace("H MSG 0f", "H MSG 0x"),
			/:\d+: payload: expected up to 240 bytes in hex/,
		],
		["has too many processors", text.replace("cpus=4", "cpus=4000"), /:1: cpus: expected 1 to 199/],
		["has a host line that is not known", text.replace("H MSG 04", "H SING 04"), /:\d+: verb: expected MSG/],
		["lacks an argument", text.replace("C list", "C open 1"), /:\d+: send pages: expected a value/],
	])("is named when it %s", async (_, bad, message) => {
		await refused(bad, message);
	});
});

describe("a damaged transcript", () => {
	printSeed("vmbus transcripts");

	/** Changes lines and characters of a text. */
	function damaged(text: string, random: Random): string {
		const lines = text.split("\n");
		for (let left = random.between(1, 4); left > 0; left--) {
			const at = random.below(lines.length);
			const line = lines[at] as string;
			const place = random.below(line.length + 1);
			const other = random.below(lines.length);
			const changes: (() => unknown)[] = [
				() => lines.splice(at, 1),
				() => lines.splice(at, 0, lines[other] as string),
				() =>
					lines.splice(
						at,
						1,
						`${line.slice(0, place)}${random.pick([..."0123456789abcdefxGHC "])}${line.slice(place + 1)}`,
					),
				() => lines.splice(at, 1, line.slice(0, place)),
				() => lines.splice(at, 1, line.replace(/\d+/, String(random.u32()))),
			];
			random.pick(changes)();
		}
		return lines.join("\n");
	}

	it("verifies, diverges, or is refused in one line that names it", async () => {
		const ROUNDS = bySuite({ quick: 45, slow: 150 });
		const random = new Random(SEED);
		const seen = { verified: 0, diverged: 0, refused: 0 };
		for (let round = 0; round < ROUNDS; round++) {
			const text = damaged(textOf(random.pick(FILES).replace(".txt.gz", "")), random);
			const result = await verifyText(text).catch((error: unknown) => error);
			if (result instanceof Error) {
				expect(result).toBeInstanceOf(InputError);
				expect(result.message).toMatch(/^\S+\.txt:?\d*: [^\n]+$/);
				seen.refused++;
			} else if ((result as { identical: boolean }).identical) seen.verified++;
			else seen.diverged++;
		}
		expect(Math.min(...Object.values(seen))).toBeGreaterThan(ROUNDS / 15);
	});
});
