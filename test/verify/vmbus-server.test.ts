import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { InputError } from "../../src/input-error.ts";
import { hasCleanServer, verifyVmbusServer } from "../../src/verify/vmbus-server.ts";
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
		expect(CLEAN.length).toBe(47);
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
