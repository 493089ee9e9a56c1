import { readFileSync } from "node:fs";
import { gunzipSync, gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { auditWorkload } from "../../src/study/audit.ts";
import { comparePolicies, compareWorkload } from "../../src/study/compare.ts";
import { runMatrix } from "../../src/study/matrix.ts";
import { SYSTEM_SCENARIOS } from "../../src/vmbus/system/scenarios.ts";
import { type CliResult, coco, shortTrace, temporaryFile } from "../helpers/cli.ts";
import { DOCUMENTS, type DocumentName, documentErrors, generated, schemaFile } from "../helpers/schema.ts";
import { SMALL, shortPgbench } from "../helpers/workload.ts";

const GOLDEN = new URL("../golden/", import.meta.url).pathname;
const NVME = `${GOLDEN}swiotlb-recorded/up-nvme.txt.gz`;
const TRACE = shortTrace(400);
const GUEST = ["--ram", "64M", "--pool", "4M"];

// biome-ignore lint/suspicious/noExplicitAny: parsed JSON
function written({ out, err, code }: CliResult, exit = 0): any {
	expect([err, code]).toEqual(["", exit]);
	return JSON.parse(out);
}

describe("the schemas", () => {
	// npx vitest run test/report/schemas.test.ts -u writes them anew
	it.each(Object.keys(DOCUMENTS) as DocumentName[])("say what the types and their comments say: %s", async (name) => {
		await expect(generated(name)).toMatchFileSnapshot(schemaFile(name));
	});

	it("find a field that is missing, one of another kind, and one that nobody documented", async () => {
		const document = written(await coco("verify", NVME, "--json", "-"));
		expect(documentErrors(document)).toEqual([]);
		const { identical: _, ...less } = document;
		expect(documentErrors(less)).toEqual([expect.stringContaining("must have required property 'identical'")]);
		expect(documentErrors({ ...document, identical: "yes" })).toEqual([
			expect.stringContaining("/identical must be boolean"),
		]);
		expect(documentErrors({ ...document, more: 1 })).toEqual([
			expect.stringContaining("must NOT have additional properties"),
		]);
	});
});

describe("what a command writes with --json is by its schema", () => {
	const faults = async (args: readonly string[], exit = 0) => documentErrors(written(await coco(...args), exit));

	it("compare", async () => {
		expect(await faults(["compare", TRACE, TRACE, "--repeat", "2", "--json", "-"])).toEqual([]);
		// a pool that refuses
		expect(
			await faults(["compare", shortTrace(3000), ...GUEST.with(3, "256K"), "--repeat", "1", "--json", "-"]),
		).toEqual([]);
	});

	it("compare --policy, of a policy that bounces, one that shares in place, one that is refused and one that crashes", async () => {
		const crash = temporaryFile(
			"crash.ts",
			`import { KernelCrash } from "coco-dma/policy";
export default { name: "crash", title: "t", source: "s", kernel: "linux-6.12", acceptance: "none",
	predicates: { forceBounce: () => { throw new KernelCrash("force_dma_unencrypted", "NULL"); } } };`,
		);
		const policies = `rfc-v3,linux-7.3+share-in-place,linux-7.3+no-fallback,${crash}`;
		const options = ["--scenario", "storvsc-plain", ...GUEST, "--repeat", "1", "--json", "-"];
		expect(await faults(["compare", TRACE, "--policy", policies, ...options])).toEqual([]);
	});

	it("audit, of a breach, of nothing, and where nothing runs", async () => {
		for (const [policy, exit] of [
			["rfc-v3", 1],
			["cc-accepted-bus", 0],
			["cc-accepted-bus+no-fallback", 0],
		] as const)
			expect(await faults(["audit", TRACE, "--policy", policy, ...GUEST, "--json", "-"], exit)).toEqual([]);
	});

	it("policies, measured or not, and the list of them", async () => {
		const some = ["--policy", "rfc-v3,linux-7.3+share-in-place", "--scenario", "storvsc-full,restricted-pool"];
		expect(await faults(["policies", ...some, "--json", "-"])).toEqual([]);
		expect(await faults(["policies", "--policy", "null-pool+force", "--no-cost", "--json", "-"])).toEqual([]);
		expect(await faults(["policies", "--list", "--json", "-"])).toEqual([]);
	});

	it("explain, of a bounce, a direct map and a refusal", async () => {
		const asked = ["explain", "--platform", "snp", "--json", "-"];
		for (const more of [[], ["--accepted"], ["--policy", "cc-accepted", "--coherent", "--sg", "4K,1"]])
			expect(await faults([...asked, ...more])).toEqual([]);
		for (const more of [
			["--swiotlb", "noforce", "--mask", "20"],
			["--sg", "300K"],
			["--bytes", "300K"],
		])
			expect(await faults([...asked, ...more], 1)).toEqual([]);
	});

	it("verify, of what is identical, what differs and what cannot be read", async () => {
		const text = gunzipSync(readFileSync(NVME)).toString().replace("-> 0x22c00000", "-> 0x22c00800");
		const other = temporaryFile("other.txt.gz", gzipSync(text));
		const files = ["ring/small_2p", "vmbus/subchannels", "swiotlb-ops/exhaust_256_a2"].map(
			(name) => `${GOLDEN}${name}.txt.gz`,
		);
		expect(await faults(["verify", NVME, other, ...files, "--json", "-"], 1)).toEqual([]);
		const { out, code } = await coco("verify", NVME, "/no/such/file", "--json", "-");
		expect([documentErrors(JSON.parse(out)), code]).toEqual([[], 2]);
	});

	it("vmbus decode, of hex, of a transcript and of malformed bytes", async () => {
		expect(await faults(["vmbus", "decode", "0e00000000000000040000000000000000", "--json", "-"], 1)).toEqual([]);
		expect(await faults(["vmbus", "decode", `${GOLDEN}vmbus/subchannels.txt.gz`, "--json", "-"])).toEqual([]);
	});

	it.each(SYSTEM_SCENARIOS.map(({ name }) => name))("vmbus demo: %s", async (name) => {
		expect(await faults(["vmbus", "demo", "--scenario", name, "--json", "-"])).toEqual([]);
	});
});

describe("numbers in JSON", () => {
	it("are exact: no quantile is rounded to 1, and what is derived follows from what it is derived of", async () => {
		const { results } = written(await coco("compare", TRACE, "--repeat", "1", "--json", "-"));
		for (const { latency, bytes, totalNs, gigabytesPerSecond, dmaNs, dmaNsPerRequest, requests } of results) {
			const quantiles = latency.curve.map(({ quantile }: { quantile: number }) => quantile);
			expect(quantiles).toEqual([0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999, 1]);
			expect([gigabytesPerSecond, dmaNsPerRequest]).toEqual([bytes / totalNs, dmaNs / requests]);
		}
	});
});

describe("what a call of the library returns", () => {
	it("is what the command writes, but for the command and the machine", async () => {
		const work = await shortPgbench(300);
		const documents = [
			await compareWorkload(work, { ...SMALL, repeat: 1 }),
			await comparePolicies(work, { policies: ["rfc-v3"], ...SMALL, repeat: 1 }),
			await auditWorkload(work, { policy: "rfc-v3", ...SMALL }),
		];
		const missing = (name: string) => expect.stringContaining(`must have required property '${name}'`);
		for (const document of documents)
			expect(documentErrors(JSON.parse(JSON.stringify(document)))).toEqual([
				missing("command"),
				missing("environment"),
			]);
		const matrix = await runMatrix({ policies: ["rfc-v3"], scenarios: ["storvsc-full"], cost: false });
		expect(documentErrors(matrix)).toEqual([missing("command"), missing("engineHash"), missing("environment")]);
	});
});
