import { spawn } from "node:child_process";
import { describe, expect, it } from "vitest";
import { cocoProcess, MAIN, PGBENCH, shortTrace } from "../helpers/cli.ts";

const NVME = new URL("../golden/swiotlb-recorded/up-nvme.txt.gz", import.meta.url).pathname;
const SMALL = ["--ram", "64M", "--pool", "4M"];
const DISMISSED = "0e00000000000000 0000060000000000 0200000010000000 0010000000000000 0020000000000000";

/** Every command as people run it; what it does is tested beside this file, in one process. */
describe("coco-dma as a process", () => {
	const short = shortTrace(200);

	it.each<[name: string, args: readonly string[], code: number, out: RegExp]>([
		["compare", ["compare", short, "--repeat", "1"], 0, /on nvme\n[\s\S]*bounce/],
		[
			"compare --policy",
			["compare", short, "--policy", "rfc-v3,cc-accepted-bus", "--repeat", "1", ...SMALL],
			0,
			/BREACH/,
		],
		["audit", ["audit", short, "--policy", "rfc-v3", ...SMALL], 1, /^rfc-v3: [\s\S]*BREACH/],
		[
			"policies",
			["policies", "--no-cost", "--policy", "rfc-v3", "--scenario", "storvsc-full"],
			0,
			/BREACH 4,096 bytes/,
		],
		["explain", ["explain", "--platform", "snp", "--kernel", "linux-7.3", "--accepted"], 0, /The host reads no byte/],
		["verify", ["verify", NVME], 0, /^up-nvme: 9572\/9572 maps/],
		["vmbus decode", ["vmbus", "decode", DISMISSED], 0, /^INITIATE_CONTACT \(14\), guest to server/],
		["vmbus demo", ["vmbus", "demo", "--scenario", "confidential-all"], 0, /\S/],
		["bench --help", ["bench", "--help"], 0, /^Usage: coco-dma bench/],
		["--help", ["--help"], 0, /^Usage: coco-dma COMMAND/],
		["nothing", [], 2, /^Usage: coco-dma COMMAND/],
	])("runs %s", (_, args, code, out) => {
		expect(cocoProcess(...args)).toMatchObject({ code, out: expect.stringMatching(out), err: "" });
	});

	it("ends with 2 and one line where it cannot run", () => {
		expect(cocoProcess("compare", "/no/such")).toEqual({
			code: 2,
			out: "",
			err: "coco-dma compare: /no/such: no such file\n",
		});
	});

	it("is no failure to a reader that has seen enough", async () => {
		const child = spawn(process.execPath, [MAIN, "audit", PGBENCH, "--help"], { stdio: ["ignore", "pipe", "pipe"] });
		child.stdout.destroy();
		let err = "";
		child.stderr.on("data", (text) => {
			err += text;
		});
		const code = await new Promise((resolve) => child.once("close", resolve));
		expect([code, err]).toEqual([0, ""]);
	});
});
