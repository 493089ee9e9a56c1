import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { coco, expectRefused, shortTrace, temporaryFile } from "../helpers/cli.ts";

const TRACE = shortTrace(400);
const SMALL = ["--ram", "64M", "--pool", "4M"];
const MINE = new URL("../../examples/my-policy.ts", import.meta.url).pathname;

function audit(policy: string, ...more: string[]) {
	return coco("audit", TRACE, "--policy", policy, ...SMALL, ...more);
}

// biome-ignore lint/suspicious/noExplicitAny: parsed JSON
async function auditJson(policy: string, ...more: string[]): Promise<any> {
	const { out, err } = await audit(policy, ...more, "--json", "-");
	expect(err).toBe("");
	return JSON.parse(out);
}

describe("coco-dma audit", () => {
	it("ends with 1 on a breach: rfc-v3 on the default scenario, which names the bytes and the first one's way", async () => {
		const { code, out, err } = await audit("rfc-v3");
		expect([code, err]).toEqual([1, ""]);
		expect(out).toMatch(
			/^rfc-v3: swiotlb_dev_disable.*\nrules of Linux 6\.12; acceptance from the offer: channel->co_external_memory\n/,
		);
		expect(out).toContain("on storvsc (storvsc-full) on snp");
		expect(out).toMatch(/\nThe first breached byte, at gpa 0x[0-9a-f]+:\n {2}\w+ .*\n {2}\w+ /);
		expect(out).toMatch(/private-stays-private \(breach\)/);
		const [, bytes = ""] = /\nBREACH: ([\d,]+) bytes of an accepted device's data reached/.exec(out) ?? [];
		expect(Number(bytes.replaceAll(",", ""))).toBeGreaterThan(100_000);
	});

	it("ends with 0 where nothing is breached: a policy that keeps the bytes private, and a device that is exposed as designed", async () => {
		const kept = await audit("cc-accepted-bus");
		expect(kept.code).toBe(0);
		expect(kept.out).toContain("No byte of the accepted device's data reached a page that the host reads.");
		const exposed = await audit("rfc-v3", "--scenario", "legacy-virtio");
		expect(exposed.code).toBe(0);
		expect(exposed.out).toMatch(/Exposed, as designed for a device that is not trusted: [\d,]+ bytes/);
	});

	it("reports the device's queue, coherent memory that a proposal about bouncing alone leaves shared", async () => {
		const { code, out } = await audit("linux-7.3", "--scenario", "tdisp-nvme");
		expect(code).toBe(1);
		expect(out).toContain("its queue, 81,920 bytes of coherent memory from the page allocator");
		expect(out).toMatch(/ +tdisp-nvme \(confidential\) +tdisp-nvme queue \(confidential\)\n/);
		expect(out).not.toContain("counters-return-to-zero");
		const shared = await auditJson("linux-7.3", "--scenario", "tdisp-nvme");
		const queue = shared.owners.find(({ owner }: { owner: string }) => owner === "tdisp-nvme queue");
		// a command of 64 bytes and an answer of 16 each, but for what is live at the end
		expect(queue.sharedBytes).toBeGreaterThan(70 * shared.drive.commands);
		expect(queue.sharedBytes).toBeLessThanOrEqual(80 * shared.drive.commands);
		expect(queue.standingBytes % 16).toBe(0);
		const kept = await auditJson("cc-accepted", "--scenario", "tdisp-nvme");
		expect([kept.queue.from, kept.owners, kept.verdict.bytes]).toEqual(["pages", [], 0]);
		expect((await auditJson("rfc-v3")).queue).toBeNull();
	});

	it.each([
		["linux-7.3", "tdisp-nvme"],
		["rfc-v3", "storvsc-full"],
		["force-bounce", "legacy-virtio"],
		["linux-7.3+share-in-place", "tdisp-nvme"],
	])("has one total that its counts are parts of: %s on %s", async (policy, scenario) => {
		const { total, owners } = await auditJson(policy, "--scenario", scenario);
		const { reachedBytes, firstCopyBytes, convertedBytes, sentBytes } = total;
		const { readableBytes, endedResidueBytes, goneBytes, twiceBytes } = total;
		expect(reachedBytes).toBe(owners.reduce((sum: number, one: { sharedBytes: number }) => sum + one.sharedBytes, 0));
		expect(firstCopyBytes + convertedBytes + sentBytes).toBe(reachedBytes);
		expect(readableBytes + endedResidueBytes + goneBytes - twiceBytes).toBe(reachedBytes);
		for (const part of Object.values(total)) expect(part).toBeGreaterThanOrEqual(0);
		const { out } = await audit(policy, "--scenario", scenario);
		expect(out).toContain(`In all ${reachedBytes.toLocaleString("en-US")} bytes reached pages`);
	});

	it("ends with 0 and says why, where a device does not come about", async () => {
		const { code, out } = await audit("cc-accepted-bus+no-fallback");
		expect(code).toBe(0);
		expect(out).toContain("Nothing ran: the confidential connection failed");
	});

	it("takes a policy of the user's own, and its modifiers", async () => {
		expect((await audit(MINE)).code).toBe(0);
		expect((await audit(MINE)).out).toMatch(/^never-copy: /);
		expect((await audit(`${MINE}+mask-32`)).out).toMatch(/^never-copy\+mask-32: /);
	});

	it("says the same in JSON as in text, alone on standard output", async () => {
		const { out, code } = await audit("rfc-v3");
		const report = await auditJson("rfc-v3");
		expect(code).toBe(1);
		expect(report).toMatchObject({
			command: "audit",
			scenario: "storvsc-full",
			platform: "snp-vtom",
			verdict: { kind: "BREACH", confidential: true },
		});
		expect(out).toContain(`BREACH: ${report.verdict.bytes.toLocaleString("en-US")} bytes`);
		const [owner] = report.owners;
		for (const figure of [owner.sharedBytes, owner.initialBytes, owner.standingBytes, owner.residueBytes])
			expect(out).toContain(`${figure.toLocaleString("en-US")} B`);
		for (const page of report.pages) expect(out).toContain(`0x${page.gpa.toString(16)}`);
		for (const { role, event } of report.first.history.steps)
			expect(out).toMatch(
				new RegExp(`^  ${role} +.*, event ${event.number}, at ${event.timeNs.toLocaleString("en-US")} ns$`, "m"),
			);
		expect(report.environment.node).toBe(process.version);
	});

	it("counts the same for the same seed", async () => {
		expect((await audit("rfc-v3", "--seed", "5")).out).toBe((await audit("rfc-v3", "--seed", "5")).out);
	});

	it("runs a scenario on another platform, and in a guest with RAM above 4 GiB", async () => {
		const cca = await auditJson("cc-accepted", "--scenario", "tdisp-nvme", "--platform", "cca");
		expect(cca).toMatchObject({
			platform: "cca",
			verdict: { kind: "private", bytes: 0 },
			drive: { undelivered: [], refused: {} },
		});
		const large = await coco(
			"audit",
			TRACE,
			"--policy",
			"linux-7.3",
			"--scenario",
			"tdisp-nvme-32",
			"--ram",
			"4G",
			"--pool",
			"4M",
		);
		expect([large.code, large.err]).toEqual([1, ""]);
		expect(large.out).toMatch(/0 direct maps, [1-9][\d,]* bounced.*refused commands: none/);
	});

	it("refuses wrong calls in one line", async () => {
		expectRefused(await coco("audit"), "expected a TRACE");
		expectRefused(await coco("audit", TRACE), "--policy: expected a policy");
		expectRefused(await coco("audit", TRACE, TRACE, "--policy", "rfc-v3"), "one trace at a time");
		expectRefused(await audit("rfc-v4"), 'not "rfc-v4"', "rfc-v3");
		expectRefused(await audit("rfc-v3+fast"), 'not "fast"', "zero-on-free");
		expectRefused(await audit("rfc-v3", "--scenario", "floppy"), 'not "floppy"', "storvsc-full");
		expectRefused(await audit("rfc-v3", "--platform", "sgx"), "--platform: expected one of", 'not "sgx"');
		expectRefused(await audit("rfc-v3", "--device", "nvme"), "--device");
		expectRefused(await audit("rfc-v3", "--repeat", "2"), "--repeat");
		expectRefused(await coco("audit", TRACE, "--policy", "rfc-v3", "--pool", "lots"), "--pool", "lots");
		expectRefused(await audit("rfc-v3", "--seed", "-1"), "--seed");
		expectRefused(await audit("rfc-v3", "--contiguity", "0"), "contiguity");
		expectRefused(await audit("rfc-v3", "--json", "/no/such/folder/x"), "/no/such/folder");
		expectRefused(
			await coco("audit", TRACE, "--policy", "rfc-v3", "--ram", "64M", "--pool", "64M"),
			"pool: 64 MiB",
			"RAM of 64 MiB",
		);
		const large = ["--scenario", "tdisp-nvme-32", "--ram", "16G"];
		expectRefused(await coco("audit", TRACE, "--policy", "private-pool", ...large), "smaller --pool", "held twice");
	});

	it("refuses files that are no policy, and traces that are none", async () => {
		expectRefused(await audit("./none.ts"), "./none.ts: no such file");
		expectRefused(await audit(temporaryFile("a.ts", "export default 7;")), "a.ts");
		expectRefused(
			await audit(temporaryFile("b.ts", "export const x = 1;")),
			"b.ts: expected a policy as the default export",
		);
		expectRefused(await audit(temporaryFile("c.ts", "export default {")), "c.ts:1");
		expectRefused(await audit(temporaryFile("d.ts", 'throw new Error("two\\nlines");')), "d.ts");
		const refused = async (trace: string, ...parts: string[]) =>
			expectRefused(await coco("audit", trace, "--policy", "rfc-v3", ...SMALL), ...parts);
		await refused(MINE, ":1: unknown format");
		await refused(temporaryFile("nul", new Uint8Array(1000)), "nul:1: unknown format");
		const issue = (bytes: number, sectors: number) =>
			`a-1 [000] ..... 1.000000: block_rq_issue: 7,0 W ${bytes} () 8 + ${sectors} [a]\n`;
		await refused(temporaryFile("odd", issue(511, 1)), "odd");
		await refused(temporaryFile("huge", issue(2 ** 40, 2 ** 31)), "huge");
		// 32 MiB at once, in a guest that has 16 MiB of buffers
		const done = "a-1 [000] ..... 1.000001: block_rq_complete: 7,0 W () 8 + 65536 [0]\n";
		await refused(temporaryFile("big", issue(2 ** 25, 2 ** 16) + done), "finds no free page: give it more --ram");
		await refused(join(MINE, "x"), "my-policy.ts/x");
	});

	it("takes the largest and the smallest request", async () => {
		const trace = temporaryFile(
			"sizes",
			[
				"a-1 [000] ..... 1.000000: block_rq_issue: 7,0 W 512 () 8 + 1 [a]",
				"a-1 [000] ..... 1.000001: block_rq_issue: 7,0 R 8388608 () 16 + 16384 [a]",
				"a-1 [000] ..... 0.500000: block_rq_complete: 7,0 W () 8 + 1 [0]",
				"",
			].join("\n"),
		);
		for (const scenario of ["storvsc-full", "legacy-virtio"]) {
			const { out } = await coco(
				"audit",
				trace,
				"--policy",
				"force-bounce",
				"--scenario",
				scenario,
				"--ram",
				"128M",
				"--pool",
				"32M",
				"--json",
				"-",
			);
			const report = JSON.parse(out);
			expect(report).toMatchObject({
				requests: 2,
				bytes: 8_389_120,
				drive: { refused: {}, undelivered: [], crash: null },
			});
		}
	});
});
