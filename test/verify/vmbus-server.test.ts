import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { InputError } from "../../src/input-error.ts";
import { hasCleanServer, verifyVmbusServer } from "../../src/verify/vmbus/server.ts";
import { recordingText } from "../helpers/golden.ts";
import { printSeed, Random, SEED } from "../helpers/random.ts";

printSeed("vmbus server verify");
const FOLDER = new URL("../golden/vmbus/", import.meta.url).pathname;
const NAMES = readdirSync(FOLDER)
	.filter((name) => name.endsWith(".txt.gz"))
	.map((name) => name.replace(".txt.gz", ""));
const linesOf = (name: string) => recordingText(`${FOLDER}${name}.txt.gz`).split("\n");
const CLEAN = NAMES.filter((name) => hasCleanServer(linesOf(name)));

describe("the server, in the recorded host's place", () => {
	it("is driven with the transcripts whose host had no faults of its own", () => {
		expect(CLEAN.length).toBe(50);
		for (const name of ["post_retry", "hostile_ring", "malformed", "unload_wait"]) expect(CLEAN).not.toContain(name);
	});

	it.each(CLEAN)("answers as recorded: %s", (name) => {
		expect(verifyVmbusServer(name, linesOf(name)).outcome).toEqual({
			identical: true,
			said: expect.stringMatching(/^server: \d+ posts, \d+ messages identical, \d+ acts$/),
		});
	});

	it("says which message differs, decoded on both sides, when the recording has other bytes", () => {
		const lines = linesOf("open_fail");
		const at = lines.findIndex((line) => line.startsWith("H MSG 06000000"));
		const other = lines.with(at, (lines[at] as string).replace("010000c0", "020000c0"));
		expect(verifyVmbusServer("x", other).outcome).toMatchObject({
			identical: false,
			divergence: {
				line: at + 1,
				expected: expect.stringMatching(/^OPENCHANNEL_RESULT .*status=.*c0000002/),
				got: expect.stringMatching(/^OPENCHANNEL_RESULT .*c0000001/),
			},
		});
	});

	it("stands in for hosts only whose monitor ids and relids a server can offer", () => {
		const lines = linesOf("offers_5");
		expect(hasCleanServer(lines)).toBe(true);
		const other = (name: string, value: number) =>
			lines.map((line) => line.replace(new RegExp(`^(S offer .*"${name}": )(null|\\d+)`), `$1${value}`));
		expect(hasCleanServer(other("monitor", 127))).toBe(true);
		for (const lines of [other("monitor", 128), other("monitor", 200), other("relid", 0), other("relid", 2048)])
			expect(hasCleanServer(lines)).toBe(false);
		const at = lines.findLastIndex((line) => line.startsWith("S offer"));
		const [last] = lines.slice(at) as [string];
		for (const [twice, isClean] of [
			[last, false],
			[last.replace(/"relid": \d+/, '"relid": 9'), false],
			[last.replace(/"relid": \d+/, '"relid": 9').replace('"sub": 0', '"sub": 1'), true],
			[last.replace(/"instance": "a/, '"instance": "b'), false],
		] as const)
			expect(hasCleanServer(lines.toSpliced(at + 1, 0, twice)), twice).toBe(isClean);
		// taken back and offered again
		const again = linesOf("rescind_unopened");
		expect(again.filter((line) => line.startsWith("S act hotadd")).length).toBe(1);
		expect(hasCleanServer(again)).toBe(true);
		expect(hasCleanServer(again.filter((line) => !line.startsWith("S act rescind")))).toBe(false);
	});

	it("rescinds the sub-channels of a primary first, also where the recorded host left that out", () => {
		const lines = linesOf("subchannel_rescind_all");
		const acts = lines.filter((line) => line.startsWith("S act rescind"));
		expect(acts.length).toBeGreaterThan(1);
		const primary = acts.at(-1) as string;
		const isSub = (line: string) => line.startsWith("S act rescind") && line !== primary;
		const subs = acts.filter(isSub).map((line) => Number(line.split(" ").at(-1)));
		const rescindOf = (relid: number) => `H MSG 0200000000000000${Buffer.from([relid, 0, 0, 0]).toString("hex")}`;
		// the host rescinds the primary alone: what the guest posts for the others it still does
		const less = lines.filter((line) => !isSub(line) && !subs.some((relid) => line === rescindOf(relid)));
		expect(less.length).toBe(lines.length - 2 * subs.length);
		expect(verifyVmbusServer("x", less).outcome).toMatchObject({ identical: true });
		// and it rescinds them afterwards
		const at = less.indexOf(rescindOf(Number(primary.split(" ").at(-1))));
		const late = subs.flatMap((relid) => [`S act rescind ${relid}`, rescindOf(relid)]);
		expect(verifyVmbusServer("x", less.toSpliced(at + 1, 0, ...late)).outcome).toMatchObject({ identical: true });
		// a rescind of the primary that never comes is still missed
		expect(verifyVmbusServer("x", less.toSpliced(at, 1)).outcome.identical).toBe(true);
	});

	it("notices every byte of every message, every missing one, and every status that differ", () => {
		const random = new Random(SEED);
		for (let i = 0; i < 300; i++) {
			const lines = linesOf(random.pick(["offers_5", "open_fail", "gpadl_sizes", "downgrade_5_2", "subchannels"]));
			const answers = lines.flatMap((line, at) => (/^H (MSG|RET) /.test(line) ? [at] : []));
			const at = random.pick(answers);
			const line = lines[at] as string;
			if (line.startsWith("H RET")) lines[at] = "H RET 18";
			else if (random.oneIn(3)) lines.splice(at, 1);
			else {
				const digit = 6 + random.below(line.length - 6);
				lines[at] = line.slice(0, digit) + (line[digit] === "0" ? "1" : "0") + line.slice(digit + 1);
			}
			expect(verifyVmbusServer("x", lines).outcome).toMatchObject({
				identical: false,
				divergence: { line: expect.any(Number) },
			});
		}
	});

	it("refuses files that are none of the format with one line, and never fails otherwise", () => {
		const random = new Random(SEED + 1);
		for (let i = 0; i < 400; i++) {
			const lines = linesOf(random.pick(["offers_5", "open_fail", "soak_5"])).filter(
				(line) => !/^G (ALLOC|WRMSR)/.test(line),
			);
			for (let n = 0; n < 3; n++) {
				const at = random.below(lines.length);
				const words = (lines[at] as string).split(" ");
				words[random.below(words.length)] = random.pick([
					"",
					"zz",
					"-1",
					"ffffffffffffffffff",
					"{}",
					"null",
					"H",
					"S",
					"0d",
				]);
				lines[at] = words.join(" ");
			}
			try {
				expect(typeof verifyVmbusServer("x", lines).outcome.identical).toBe("boolean");
			} catch (error) {
				expect(error).toBeInstanceOf(InputError);
				expect((error as Error).message).toMatch(/^x(:\d+)?: [^\n]+$/);
			}
		}
		expect(() => verifyVmbusServer("x", ["G POST 4 1 0300 hc"])).toThrow(/S server/);
		expect(() => verifyVmbusServer("x", ["S server versions=60001 conn_ids=1 msg_conn=1"])).toThrow(/no VMBus version/);
	});
});
