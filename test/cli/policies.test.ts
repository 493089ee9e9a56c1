import { readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import type { Cell } from "../../src/study/cell.ts";
import { VERDICT_KINDS } from "../../src/study/verdict.ts";
import { coco, temporaryFile, temporaryFolder } from "../helpers/cli.ts";
import { documentErrors } from "../helpers/schema.ts";

/** What the command prints that succeeds. */
async function policies(...args: string[]): Promise<string> {
	const { code, out, err } = await coco("policies", ...args);
	expect([code, err]).toEqual([0, ""]);
	return out;
}

const QUICK = ["--no-cost", "--scenario", "storvsc-full"];
const MINE = `import type { Policy } from "coco-dma/policy";
export default { name: "mine", title: "t <b>", source: "s", kernel: "linux-7.3", acceptance: "any" } satisfies Policy;
`;

describe("coco-dma policies", () => {
	it("prints policies as rows and scenarios as columns, eight beside each other, and what the words mean", async () => {
		const out = await policies("--no-cost", "--policy", "rfc-v3,null-pool,cc-accepted-bus+no-fallback");
		const lines = out.split("\n");
		expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(160);
		expect(lines[0]).toMatch(/^policy +legacy-virtio +storvsc-plain /);
		expect(out).toMatch(/^policy +.*restricted-pool/m);
		expect(out).toMatch(/^rfc-v3 +exposed 4,096 B .*BREACH 4,096 B/m);
		expect(out).toMatch(/^6\.12, offer/m);
		for (const row of ["VMBus ring:", "GPADL buffer:"]) expect(out).toContain(`\n${row}`);
		for (const word of [...VERDICT_KINDS, "confidential", "hazard"])
			expect(out).toMatch(new RegExp(`^  ${word} +\\S`, "m"));
		expect(out).not.toContain(" ns");
	});

	it("measures what a mapping costs, and says where", async () => {
		const out = await policies("--policy", "cc-accepted,linux-7.3+share-in-place", "--scenario", "tdisp-nvme");
		expect(out).toMatch(/^\S+ +private\n.* [\d,]+ ns$/m);
		expect(out).toMatch(/ [\d,]+ ns\n +\+ 2 conversions$/m);
		expect(out.trimEnd().split("\n").at(-1)).toMatch(/^coco-dma .*, Node .*, load .*, engine [0-9a-f]{16}$/);
	});

	it("shows one policy with its header and a line a scenario", async () => {
		const lines = (await policies("--no-cost", "--policy", "rfc-v3", "--scenario", "legacy-virtio,storvsc-full")).split(
			"\n",
		);
		expect(lines.slice(0, 3)).toEqual([
			expect.stringMatching(/^rfc-v3: swiotlb_dev_disable\(dev\) compares/),
			"  rules of Linux 6.12; acceptance from the offer: channel->co_external_memory",
			expect.stringMatching(/^ {2}source: Tianyu Lan, V3 RFC/),
		]);
		expect(lines[3]).toMatch(
			/^ {2}mail: "\[RFC PATCH V3\] .*2026-03-25; lists iommu, linux-hyperv, linux-kernel; Message-ID/,
		);
		expect(lines.slice(lines.indexOf(""), lines.indexOf("") + 3)).toEqual([
			"",
			expect.stringMatching(/^legacy-virtio {2}on snp {7}exposed 4,096 bytes/),
			expect.stringMatching(/^storvsc-full {3}on snp-vtom {2}BREACH 4,096 bytes/),
		]);
	});

	it("names each modifier in the header line, with its own source below", async () => {
		const out = await policies(...QUICK, "--policy", "cc-accepted+force");
		expect(out.slice(0, out.indexOf("\n  rules of ")).replace(/\n {2}/g, " ")).toMatch(
			/^cc-accepted\+force: .*; \+force: swiotlb=force on the command line$/,
		);
		expect(out).toMatch(/^ {2}source: Dan Williams/m);
		expect(out).toMatch(/^ {2}\+force: source: Robin Murphy/m);
		const { rows } = JSON.parse(await policies(...QUICK, "--policy", "cc-accepted+force", "--json", "-"));
		expect(rows[0].policy.modifiers).toMatchObject([
			{ name: "force", references: [{ kind: "mail", date: "2026-02-11" }] },
		]);
	});

	it("opens cells into their parts, each with what decided", async () => {
		const out = await policies(...QUICK, "--policy", "rfc-v3", "--open");
		expect(out).toMatch(/^ {2}part +on +how +verdict +conversions +hazards +because$/m);
		expect(out).toMatch(
			/^ {2}4 KiB TO_DEVICE +snp-vtom +bounce +BREACH 4,096 bytes .*is_swiotlb_force_bounce\(dev\) true: /m,
		);
		expect(out).toMatch(
			/^ {2}coherent 4 KiB +tdx +allocated +BREACH 8,192 bytes \(2 generations of content, 4,096 bytes at one look\) /m,
		);
	});

	it("runs every cell on the platform that is asked for", async () => {
		const { rows, scenarios } = JSON.parse(
			await policies(...QUICK, "--policy", "null-pool", "--platform", "tdx", "--json", "-"),
		);
		expect(scenarios[0].platform).toBe("tdx");
		const cell: Cell = rows[0].cells[0];
		expect(cell).toMatchObject({ platform: "tdx", kind: "BREACH" });
		const verdicts = (told: boolean) => cell.parts.filter((part) => part.told || !told).map(({ verdict }) => verdict);
		expect(verdicts(true)).toMatchObject([
			{ kind: "private", part: "4 KiB TO_DEVICE", bytes: 0, cause: null },
			{ kind: "BREACH", part: "coherent 4 KiB", bytes: 8192, confidential: true, cause: null },
		]);
		expect(new Set(verdicts(false).map(({ platform }) => platform))).toEqual(new Set(["tdx"]));
	});

	it("lists policies and modifiers without running any", async () => {
		const out = await policies("--list");
		expect(out).toMatch(
			/^rfc-v3: .*\n {2}rules of Linux 6\.12; acceptance from the offer: channel->co_external_memory\n {2}source: .*\n {2}mail: /m,
		);
		expect(out).toMatch(
			/^ {2}asks device_cc_accepted\(dev\), as accepted-five, two-allocators, .* of the same mail do$/m,
		);
		const restricted = out.slice(out.indexOf("\nnull-pool-restricted: ")).replace(/\n {4}/g, " ");
		expect(restricted).toMatch(
			/^ {2}changes is_swiotlb_for_alloc\(dev\): .*Linux 6\.12 include\/linux\/swiotlb\.h, is_swiotlb_for_alloc <https:/m,
		);
		expect(out).toContain("<https://lore.kernel.org/all/20250828010557.123869-2-romank@linux.microsoft.com/>");
		expect(out).toMatch(/^\+force: swiotlb=force on the command line\n {2}source: Robin Murphy/m);
		const data = JSON.parse(await policies("--list", "--json", "-"));
		expect(documentErrors(data)).toEqual([]);
		const { policies: list, modifiers } = data;
		expect(list.find(({ name }: { name: string }) => name === "cc-accepted")).toMatchObject({
			kernel: "linux-7.3",
			acceptance: "tdisp",
			asks: "device_cc_accepted(dev)",
			references: expect.arrayContaining([expect.objectContaining({ kind: "mail", date: "2026-03-02" })]),
		});
		expect(modifiers.map(({ name }: { name: string }) => name)).toContain("mask-32");
	});

	it("writes JSON and a page that loads nothing, beside the text", async () => {
		const folder = temporaryFolder();
		const [json, html] = [join(folder, "p.json"), join(folder, "p.html")];
		const out = await policies(...QUICK, "--policy", "rfc-v3", "--json", json, "--html", html);
		expect(out).toMatch(new RegExp(`JSON: ${json}\nReport: ${html}\n$`));
		const data = JSON.parse(readFileSync(json, "utf8"));
		expect(documentErrors(data)).toEqual([]);
		expect(data).toMatchObject({ command: "policies", environment: { node: process.version } });
		expect(data.rows[0].cells[0]).toMatchObject({
			confidential: true,
			breachedBytes: expect.any(Number),
			nsPer4KiB: null,
		});
		expect(statSync(html).size).toBeGreaterThan(5000);
		const markup = readFileSync(html, "utf8");
		expect(markup).not.toMatch(/src=|<link|@import|url\(/);
		const links = [...markup.matchAll(/<a href="([^"]*)"/g)].map(([, address]) => address);
		expect(links).toContain("https://lkml.iu.edu/2603.3/03111.html");
		for (const link of links) expect(link).toMatch(/^https:\/\//);
	});

	it("runs a policy from a file, with modifiers", async () => {
		const path = temporaryFile("mine.ts", MINE);
		const out = await policies(...QUICK, "--policy", `${path},${path}+force`);
		expect(out).toMatch(/^mine +private$/m);
		expect(out).toMatch(/^mine\+force +refused:$/m);
	});

	it("has help that names every option", async () => {
		const help = await policies("--help");
		for (const name of ["policy", "scenario", "platform", "open", "no-cost", "list", "json", "html", "help"])
			expect(help).toMatch(new RegExp(`^ {2}--${name}\\b`, "m"));
	});

	it.each([
		[["--policy", "rfc-v4"], "policy: expected one of force-bounce, driver-flag, "],
		[["--policy", "rfc-v3+loud"], "expected modifiers out of force, advisory"],
		[["--policy", "rfc-v3,"], '--policy: expected names with commas between them, not "rfc-v3,"'],
		[["--policy", "rfc-v3,rfc-v3"], '--policy: "rfc-v3" is given twice'],
		[["--policy", "./no-such.ts"], "./no-such.ts: no such file"],
		[["--scenario", "floppy"], "scenario: expected one of legacy-virtio, "],
		[
			["--platform", "mars"],
			'platform must be one of snp, snp-vtom, tdx, cca, pkvm, s390-pv, sme, arm64, none, not "mars"',
		],
		[["--json", "/no/such/x.json"], "/no/such/x.json: cannot be written"],
		[["--html", "/no/such/x.html"], "/no/such/x.html: cannot be written"],
		[["--list", "--open"], "--list runs nothing, and --open goes with a run"],
		[["rfc-v3"], 'unexpected argument "rfc-v3": policies go with --policy'],
		[["--frobnicate"], "Unknown option '--frobnicate'"],
	])("refuses %j in one line", async (args, message) => {
		const { code, out, err } = await coco("policies", ...args);
		expect([code, out]).toEqual([2, ""]);
		expect(err).toMatch(/^coco-dma policies: [^\n]+\n$/);
		expect(err).toContain(message);
	});
});
