import { copyFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { coco, expectRefused, shortTrace, temporaryFile, temporaryFolder } from "../helpers/cli.ts";

const TRACE = shortTrace(400);
const SMALL = ["--ram", "64M", "--pool", "4M", "--repeat", "1"];
const MINE = new URL("../../examples/my-policy.ts", import.meta.url).pathname;

function compare(policies: string, ...more: string[]) {
	return coco("compare", TRACE, "--policy", policies, ...SMALL, ...more);
}

// biome-ignore lint/suspicious/noExplicitAny: parsed JSON
async function compareJson(policies: string, ...more: string[]): Promise<any> {
	const { code, out, err } = await compare(policies, ...more, "--json", "-");
	expect([code, err]).toEqual([0, ""]);
	return JSON.parse(out);
}

describe("coco-dma compare --policy", () => {
	it("puts cost and exposure of each policy in one table, which says which build a figure is from", async () => {
		const { code, out, err } = await compare("rfc-v3,cc-accepted-bus");
		expect([code, err]).toEqual([0, ""]);
		const cells = (label: string) => {
			const line = out.split("\n").find((text) => text.trim().startsWith(label)) ?? "";
			return line.trim().split(/ {2,}/).slice(1);
		};
		expect(out).toContain("Cost: release build, timed\n");
		expect(out).toContain("Exposure: audit build, same input and seed\n");
		expect(cells("verdict")).toEqual(["BREACH", "private"]);
		const [bounced, none] = cells("of them bounced");
		expect([cells("mappings")[0], none]).toEqual([bounced, "0"]);
		expect(cells("against the first")[0]).toBe("1x");
		expect(cells("breached")[1]).toBe("0 B");
		expect(out).toMatch(/engine [0-9a-f]{16}\n$/);
	});

	it("says the same in JSON as in text and as the audit does", async () => {
		const { results, options } = await compareJson("rfc-v3,cc-accepted-bus");
		expect(options).toMatchObject({
			policies: ["rfc-v3", "cc-accepted-bus"],
			scenario: "storvsc-full",
			repeat: 1,
			seed: 1,
		});
		const [rfc, bus] = results;
		expect([rfc.policy, bus.policy]).toEqual(["rfc-v3", "cc-accepted-bus"]);
		expect((await compare("rfc-v3")).out).toContain(`${rfc.exposure.verdict.bytes.toLocaleString("en-US")} B`);
		const audited = JSON.parse(
			(await coco("audit", TRACE, "--policy", "rfc-v3", ...SMALL.slice(0, 4), "--json", "-")).out,
		);
		expect(audited).toMatchObject(rfc.exposure);
		expect(rfc.cost.bouncedMaps).toBe(rfc.exposure.bouncedMaps);
		expect(bus.cost.directMaps).toBe(bus.exposure.directMaps);
	});

	it("does the same as the modes that it replaces: force-bounce as bounce, cc-accepted-bus as direct", async () => {
		const [bounce, direct] = (await compareJson("force-bounce,cc-accepted-bus")).results;
		const modes = JSON.parse(
			(await coco("compare", TRACE, "--device", "storvsc", ...SMALL, "--json", "-")).out,
		).results;
		for (const [cost, mode] of [
			[bounce.cost, modes[1]],
			[direct.cost, modes[0]],
		]) {
			for (const field of [
				"directMaps",
				"bouncedMaps",
				"bytesCopiedIn",
				"bytesCopiedBack",
				"failures",
				"commands",
				"wrongBytes",
			])
				expect([field, cost[field]]).toEqual([field, mode[field]]);
		}
		expect(bounce.cost.pool.hiwaterSlots).toBe(modes[1].pool.hiwaterSlots);
	});

	it("drives from TypeScript what shares in place, counts its conversions, and times nothing that does not come about", async () => {
		const { results } = await compareJson(
			"linux-7.3+share-in-place,linux-7.3+no-fallback",
			"--scenario",
			"storvsc-plain",
		);
		const [shared, refused] = results;
		expect(shared.cost).toMatchObject({ driver: "typescript", bouncedMaps: 0 });
		expect(shared.exposure.drive.sharedInPlace).toBeGreaterThan(2 * shared.exposure.requests);
		expect(refused).toMatchObject({ cost: null, exposure: { drive: null } });
		const { out } = await compare("linux-7.3+no-fallback", "--scenario", "storvsc-plain");
		expect(out).toContain("linux-7.3+no-fallback: refused: the confidential connection failed");
	});

	it("shows a crash as one", async () => {
		const file = temporaryFile(
			"crash.ts",
			`import { KernelCrash } from "coco-dma/policy";
export default { name: "crash", title: "t", source: "s", kernel: "linux-6.12", acceptance: "none",
	predicates: { forceBounce: () => { throw new KernelCrash("force_dma_unencrypted", "NULL"); } } };`,
		);
		const { code, out } = await compare(`${file},rfc-v3`);
		expect(code).toBe(0);
		expect(out).toContain("crash: crash: force_dma_unencrypted: NULL");
		expect(out).toMatch(/ {2}verdict +crash +BREACH/);
	});

	it("takes a policy of the user's own beside a preset", async () => {
		const { results } = await compareJson(`${MINE},rfc-v3`);
		expect(results.map(({ policy }: { policy: string }) => policy)).toEqual(["never-copy", "rfc-v3"]);
	});

	it("writes one HTML file that loads nothing and that no policy and no file name breaks", async () => {
		const file = temporaryFile(
			"evil.ts",
			`export default { name: "evil", title: "<img src=x onerror=alert(1)></style>", source: "\\"><script>alert(1)</script>", kernel: "linux-7.3", acceptance: "any" };`,
		);
		const trace = join(temporaryFolder(), "<img src=y>.txt");
		copyFileSync(TRACE, trace);
		const html = join(temporaryFolder(), "r.html");
		const { code, out, err } = await coco("compare", trace, "--policy", `${file},rfc-v3`, ...SMALL, "--html", html);
		expect([code, err]).toEqual([0, ""]);
		expect(out).toContain(`Report: ${html}`);
		const page = readFileSync(html, "utf8");
		expect(page).not.toMatch(/<(?:link|img|script)\b|@import|url\(/i);
		expect(page).toContain("&lt;img src=x onerror=alert(1)&gt;");
		expect(page.match(/<\/style>/g)).toHaveLength(1);
		for (const text of ["BREACH", "release build", "audit build", "storvsc-full"]) expect(page).toContain(text);
	});

	it("counts the same for the same seed", async () => {
		const counts = async () => {
			const { results } = await compareJson("rfc-v3", "--seed", "9");
			return results.map(({ exposure }: { exposure: unknown }) => exposure);
		};
		expect(await counts()).toEqual(await counts());
	});

	it("refuses what does not go together, and what it does not know, before any work", async () => {
		expectRefused(await compare("rfc-v3", "--device", "nvme"), "--device: does not go with --policy");
		expectRefused(await compare("rfc-v3", "--mode", "direct"), "--mode: does not go with --policy");
		expectRefused(await coco("compare", TRACE, "--scenario", "storvsc-full"), "--scenario: goes with --policy");
		expectRefused(await coco("compare", TRACE, "--platform", "snp"), "--platform: goes with --policy");
		expectRefused(await compare("rfc-v3,rfc-v9"), 'not "rfc-v9"');
		expectRefused(await compare("rfc-v3,"), 'not "rfc-v3,"');
		expectRefused(await compare("rfc-v3,./none.ts"), "./none.ts: no such file");
		expectRefused(await coco("compare", TRACE, "--policy", "rfc-v3", "--repeat", "0"), "repeat");
		expectRefused(await coco("compare", "/no/such", "--policy", "rfc-v3", ...SMALL), "/no/such: no such file");
		expectRefused(await compare("rfc-v3", "--html", "/no/such/folder/x.html"), "/no/such/folder");
	});
});
