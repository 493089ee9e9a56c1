import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import {
	coco,
	cocoProcess,
	expectRefused,
	PGBENCH,
	shortTrace,
	temporaryFile,
	temporaryFolder,
} from "../helpers/cli.ts";

const GOLDEN = new URL("../golden/", import.meta.url).pathname;
const NVME = join(GOLDEN, "swiotlb-recorded/up-nvme.txt.gz");
const OPS = join(GOLDEN, "swiotlb-ops/exhaust_256_a2.txt.gz");

const GOLDEN_BLOCK = (name: string) => new URL(`../golden/block/${name}`, import.meta.url).pathname;
/** 400 reads of 128 KiB, 64 of them in flight. */
const BURST = GOLDEN_BLOCK("read-burst.ftrace.txt.gz");

// biome-ignore lint/suspicious/noExplicitAny: parsed JSON
async function compareJson(...args: string[]): Promise<any> {
	const result = await coco("compare", ...args, "--json", "-");
	expect(result.err).toBe("");
	expect(result.code).toBe(0);
	return JSON.parse(result.out);
}

describe("coco-dma", () => {
	it("explains itself and every command", async () => {
		for (const args of [["--help"], ["compare", "--help"], ["verify", "--help"]]) {
			const { code, out } = await coco(...args);
			expect(code).toBe(0);
			expect(out).toMatch(/^Usage: coco-dma/);
		}
		expect((await coco("--version")).out).toMatch(/^\d+\.\d+\.\d+\n$/);
	});

	it("refuses what it does not know in one line", async () => {
		expectRefused(await coco("destroy"), 'unknown command "destroy"');
		expectRefused(await coco("compare", PGBENCH, "--frobnicate"), "--frobnicate");
		expectRefused(await coco("compare"), "at least one TRACE");
		expectRefused(await coco("verify"), "at least one FILE");
		expectRefused(await coco("compare", PGBENCH, "--device", "floppy"), "floppy", "nvme, virtio-blk, storvsc, ahci");
		expectRefused(await coco("compare", PGBENCH, "--mode", "teleport"), "teleport");
		expectRefused(await coco("compare", PGBENCH, "--pool", "-4M"), "--pool");
		expectRefused(await coco("compare", PGBENCH, "--pool=-4M"), "--pool", "-4M");
		expectRefused(await coco("compare", PGBENCH, "--pool", "lots"), "--pool", "lots");
		expectRefused(await coco("compare", PGBENCH, "--areas", "0"), "areas", "0");
		expectRefused(await coco("compare", PGBENCH, "--repeat", "0"), "repeat");
		expectRefused(await coco("compare", PGBENCH, "--contiguity", "0.5"), "contiguity", "0.5");
		expectRefused(await coco("compare", PGBENCH, "--json", "/no/such/folder/x.json"), "/no/such/folder/x.json");
		expectRefused(cocoProcess("bench", "slotz"), "slotz");
	});

	it("refuses a pool larger than RAM", async () => {
		expectRefused(await coco("compare", PGBENCH, "--ram", "64M", "--pool", "128M"), "128 MiB", "64 MiB");
	});

	it("refuses files that it cannot read, and names them", async () => {
		expectRefused(await coco("compare", "/no/such/trace"), "/no/such/trace: no such file");
		expectRefused(await coco("compare", "/tmp"), "/tmp: is a folder");
		const torn = temporaryFile("torn.gz", readFileSync(PGBENCH).subarray(0, 999));
		expectRefused(await coco("compare", torn), `${torn}: torn or damaged gzip`);
		const other = new URL("../../bench/traces/web.pcap.gz", import.meta.url).pathname;
		expectRefused(await coco("compare", other), `${other}:1: unknown format`);
		const nul = temporaryFile("nul", new Uint8Array(1000));
		expectRefused(await coco("verify", nul), `${nul}:1: unknown format`);
	});
});

describe("coco-dma compare", () => {
	it("counts the same for the same input, options and seed, and differently for another seed", async () => {
		const trace = shortTrace();
		const counters = async (seed: string) =>
			(await compareJson(trace, "--repeat", "1", "--seed", seed, "--pool", "1M")).results.map(
				// biome-ignore lint/suspicious/noExplicitAny: parsed JSON
				({ commands, directMaps, bouncedMaps, bytesCopiedIn, bytesCopiedBack, pool, failures }: any) => ({
					commands,
					directMaps,
					bouncedMaps,
					bytesCopiedIn,
					bytesCopiedBack,
					pool,
					failures,
				}),
			);
		expect(await counters("5")).toEqual(await counters("5"));
		expect(await counters("5")).not.toEqual(await counters("6"));
	});

	it("bounces every mapping of an untrusted device and none of a trusted one", async () => {
		const [direct, bounce] = (await compareJson(shortTrace(), "--repeat", "1")).results;
		expect(direct).toMatchObject({
			mode: "direct",
			bouncedMaps: 0,
			bytesCopiedIn: 0,
			bytesCopiedBack: 0,
			hostReadableBytes: 0,
			pool: null,
		});
		expect(bounce).toMatchObject({ mode: "bounce", directMaps: 0, bytesCopiedIn: direct.bytes, wrongBytes: 0 });
		expect(bounce.bouncedMaps).toBe(direct.directMaps);
		expect(bounce.hostReadableBytes).toBe(64 * 2 ** 20);
		expect(bounce.dmaNs).toBeGreaterThan(direct.dmaNs);
		expect(Math.max(...bounce.latency.passes.p50Ns)).toBeGreaterThan(0);
	});

	it("copies back exactly what reads brought", async () => {
		const text = gunzipSync(readFileSync(PGBENCH)).toString().split("\n").slice(0, 3000);
		const reads = text.filter((line) => /block_rq_issue: 7,0 R/.test(line));
		const bytes = reads.reduce((sum, line) => sum + Number(/: 7,0 \S+ (\d+)/.exec(line)?.[1]), 0);
		const [bounce] = (await compareJson(shortTrace(), "--mode", "bounce", "--repeat", "1")).results;
		expect(bounce.bytesCopiedBack).toBe(bytes);
	});

	it.each(["nvme", "virtio-blk", "ahci"])(
		"runs every preset in both modes with every byte delivered: %s",
		async (device) => {
			const { results, options } = await compareJson(
				shortTrace(),
				"--repeat",
				"1",
				"--device",
				device,
				"--contiguity",
				"40",
			);
			expect(options.device).toBe(device);
			for (const result of results) expect(result).toMatchObject({ wrongBytes: 0, failures: {} });
			if (device === "virtio-blk") expect(results[1].bouncedMaps).toBeGreaterThanOrEqual(3 * results[1].requests);
		},
	);

	it("puts half of the buffers above 4 GiB in a guest with more than 3 GiB", async () => {
		const [bounce] = (await compareJson(shortTrace(), "--repeat", "1", "--mode", "bounce", "--ram", "16G")).results;
		expect(bounce).toMatchObject({ wrongBytes: 0, failures: {} });
		expect(bounce.pool.bytes).toBe(1024 * 2 ** 20);
	});

	it("takes areas and pool as Linux rounds them", async () => {
		const [bounce] = (
			await compareJson(shortTrace(), "--repeat", "1", "--mode", "bounce", "--pool", "3M", "--areas", "3")
		).results;
		expect(bounce.pool).toMatchObject({ slabs: 2048, areas: 4, bytes: 4 * 2 ** 20 });
	});

	it("says in text, JSON and HTML what a small pool refused, and that its columns are not comparable", async () => {
		const html = join(temporaryFolder(), "r.html");
		const args = ["compare", BURST, "--repeat", "1", "--pool", "256K", "--html", html];
		const { code, out } = await coco(...args);
		expect(code).toBe(0);
		const sentence = /bounce: (\d+) of 400 requests failed .*A pool of 4 MiB would serve all of them\./.exec(out);
		expect(Number(sentence?.[1])).toBeGreaterThan(300);
		expect(out).toContain("the columns are not comparable");
		expect(readFileSync(html, "utf8")).toContain(`bounce: ${sentence?.[1]} of 400 requests failed`);
		const [, bounce] = (await compareJson(BURST, "--repeat", "1", "--pool", "256K")).results;
		expect(bounce.requests - bounce.served.requests).toBe(Number(sentence?.[1]));
		expect(bounce).toMatchObject({
			wrongBytes: 0,
			againstFirst: null,
			servingPool: { bytes: 4 * 2 ** 20 },
			firstRefused: { status: "POOL_FULL", bytes: 131072 },
		});
		// and that pool serves all
		const { out: served } = await coco(...args.with(5, "4M"));
		expect(served).not.toContain("failed");
	});

	it("says that completions were lost, that events were, and that a trace without completions needs a depth", async () => {
		const [, bounce] = (await compareJson(PGBENCH, "--repeat", "1")).results;
		expect(bounce.pool).toMatchObject({ hiwaterSlots: 560, heldHiwaterSlots: 1976 });
		const lost = await coco("compare", GOLDEN_BLOCK("lost-events.ftrace.txt"), "--repeat", "1");
		expect(lost.out).toContain("lost 5,022 events in 4 places: every figure of this trace is a lower bound");
		const without = GOLDEN_BLOCK("issue-only.ftrace.txt");
		for (const command of [["compare"], ["audit", "--policy", "rfc-v3"], ["compare", "--policy", "rfc-v3"]])
			expectRefused(await coco(...command, without), without, "--iodepth N");
		const { code, out } = await coco("compare", without, "--iodepth", "4", "--repeat", "1");
		expect([code, out]).toEqual([0, expect.stringContaining("The trace has no completions. By --iodepth 4")]);
		const audited = await coco("audit", without, "--iodepth", "4", "--policy", "rfc-v3");
		expect(audited.out).toContain("The trace has no completions. By --iodepth 4");
	});

	it("echoes options, version, engine hash and hardware in JSON, with units in the names", async () => {
		const data = await compareJson(shortTrace(), "--repeat", "1", "--seed", "9");
		expect(data.options).toEqual({
			modes: ["direct", "bounce"],
			device: "nvme",
			ramBytes: 2 ** 30,
			seed: 9,
			contiguity: 4,
			repeat: 1,
		});
		expect(data.environment).toMatchObject({
			node: process.version,
			cores: expect.any(Number),
			cpu: expect.any(String),
		});
		expect(data.results[0].engineHash).toMatch(/^[0-9a-f]{16}$/);
		expect(Object.keys(data.results[0]).filter((key) => /^(dma|device|total)$/.test(key))).toEqual([]);
	});

	it("writes one HTML file that loads nothing", async () => {
		const html = join(temporaryFolder(), "r.html");
		const { code, out } = await coco("compare", shortTrace(), "--repeat", "1", "--html", html);
		expect(code).toBe(0);
		expect(out).toContain(`Report: ${html}`);
		const page = readFileSync(html, "utf8");
		expect(page).not.toMatch(/<(?:link|img|script)[^>]+(?:src|href)=|@import|url\(/i);
		expect(page).toContain("new uPlot");
		expect(page).toContain("DMA layer, ns per request");
	});

	it("does not let a file name break the HTML", async () => {
		const folder = temporaryFolder();
		const evil = join(folder, "<img src=x>.txt");
		writeFileSync(evil, readFileSync(shortTrace(200)));
		const html = join(folder, "r.html");
		expect((await coco("compare", evil, "--repeat", "1", "--html", html)).code).toBe(0);
		expect(readFileSync(html, "utf8")).not.toContain("<img");
	});

	it("runs several traces, each with its own results", async () => {
		const { results } = await compareJson(shortTrace(500), shortTrace(900), "--repeat", "1");
		expect(results.map(({ mode }: { mode: string }) => mode)).toEqual(["direct", "bounce", "direct", "bounce"]);
	});

	it("writes no escape codes with NO_COLOR, and no progress without a terminal", async () => {
		const { out, err } = await coco("compare", shortTrace(200), "--repeat", "1");
		expect(out).not.toContain("\x1b");
		expect(err).toBe("");
	});
});

describe("coco-dma verify", () => {
	it("prints one line a file and succeeds", async () => {
		const { code, out, err } = await coco("verify", NVME, OPS);
		expect(err).toBe("");
		expect(code).toBe(0);
		const lines = out.trimEnd().split("\n");
		expect(lines[0]).toBe("up-nvme: 9572/9572 maps, 9572 unmaps identical, hiwater 1796");
		expect(lines).toHaveLength(2);
	});

	it("exits with 1 at the first difference, with its line, what was expected and what came", async () => {
		const text = gunzipSync(readFileSync(NVME)).toString().replace("-> 0x22c00000", "-> 0x22c00800");
		const path = temporaryFile("up-nvme.txt.gz", gzipSync(text));
		const { code, out } = await coco("verify", path);
		expect(code).toBe(1);
		expect(out).toBe("up-nvme: line 9: tlb_addr of map 0: expected 0x22c00800, got 0x22c00000\n");
	});

	it("exits with 2 for a file that it cannot read, and verifies the others all the same", async () => {
		const { code, out, err } = await coco("verify", "/no/such/file", NVME);
		expect(code).toBe(2);
		expect(err).toBe("coco-dma verify: /no/such/file: no such file\n");
		expect(out).toContain("up-nvme: 9572/9572");
	});

	it("prints JSON alone with --json -", async () => {
		const { code, out } = await coco("verify", NVME, "--json", "-");
		expect(code).toBe(0);
		expect(JSON.parse(out)).toMatchObject({ identical: true, results: [{ compared: { maps: 9572, unmaps: 9572 } }] });
	});

	it("replays on the kernel's list algorithm with --reference", async () => {
		expect((await coco("verify", "--reference", NVME)).out).toContain("9572/9572 maps");
	});
});
