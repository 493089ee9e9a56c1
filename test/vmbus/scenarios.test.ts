import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { scenarioCapture, scenarioData, scenarioText } from "../../src/report/vmbus-system.ts";
import type { SystemPlatform } from "../../src/vmbus/system/options.ts";
import {
	playScenario,
	type ScenarioResult,
	SYSTEM_SCENARIOS,
	type SystemScenario,
} from "../../src/vmbus/system/scenarios.ts";
import { Version } from "../../src/vmbus/wire/versions.ts";
import { coco, temporaryFolder } from "../helpers/cli.ts";

async function shown(name: string, platform?: SystemPlatform): Promise<ScenarioResult> {
	const scenario = SYSTEM_SCENARIOS.find((one) => one.name === name) as SystemScenario;
	return playScenario(scenario, platform ?? (scenario.platforms[0] as SystemPlatform));
}

/** Whether the host reads the pages of a purpose; a purpose with pages of both kinds: both answers. */
function hostReads({ pages }: ScenarioResult, purpose: RegExp): boolean[] {
	return pages.filter((line) => purpose.test(line.purpose)).map((line) => line.hostReads);
}

const paths = ({ events }: ScenarioResult, kind: "post" | "signal") =>
	new Set(events.flatMap((event) => (event.kind === kind ? [`${event.path} ${event.by} ${event.trusted}`] : [])));

const all = SYSTEM_SCENARIOS.flatMap((scenario) =>
	scenario.platforms.map((platform) => [scenario.name, platform] as const),
);

describe("a demonstration", () => {
	it.each(all)("%s on %s prints the same twice, carries all data and leaves nothing", async (name, platform) => {
		const found = await shown(name, platform);
		expect(scenarioText(found)).toBe(scenarioText(await shown(name, platform)));
		for (const { carried, state } of found.channels) {
			if (state === "rescinded") continue;
			expect(carried.map(({ kind, same }) => [kind, same])).toEqual([
				["in-band", true],
				["GPA-direct", true],
				["transfer pages", true],
			]);
		}
		expect(found.left).toMatchObject({ used: 0, shared: 0, leaked: 0 });
		for (const event of found.events) if (event.kind === "message") expect(event.status).toBe(0);
	});

	it("says by which path the guest's calls went, and who took them", async () => {
		const calls = async (name: string, platform: SystemPlatform) => {
			const found = await shown(name, platform);
			return [...paths(found, "post"), ...paths(found, "signal")];
		};
		expect(await calls("no-paravisor", "snp")).toEqual(["direct hypervisor false", "direct hypervisor false"]);
		expect(await calls("paravisor", "snp")).toEqual(["ghcb hypervisor false", "ghcb hypervisor false"]);
		expect(await calls("paravisor", "tdx")).toEqual(["tdcall hypervisor false", "tdcall hypervisor false"]);
		expect(await calls("confidential-all", "snp")).toEqual(["direct paravisor true", "ghcb paravisor false"]);
		expect(await calls("confidential-all", "tdx")).toEqual(["direct paravisor true", "tdcall paravisor false"]);
		expect(await calls("relayed", "tdx")).toEqual([
			"direct paravisor true",
			"tdcall hypervisor false",
			"tdcall paravisor false",
		]);
	});

	it("says what the host can read: as much as the mode and the offers say", async () => {
		const rings = async (name: string) => {
			const found = await shown(name);
			return [/^ring$/, /^buffer$/, /^GPA-direct/].map((purpose) => hostReads(found, purpose));
		};
		expect(await rings("no-paravisor")).toEqual([[true], [true], [true]]);
		expect(await rings("paravisor")).toEqual([[true], [true], [true]]);
		expect(await rings("confidential-ring")).toEqual([[false], [true], [true]]);
		expect(await rings("confidential-all")).toEqual([[false], [false], [false]]);
		expect(await rings("relayed")).toEqual([
			[false, true],
			[false, true],
			[false, true],
		]);
		for (const { name } of SYSTEM_SCENARIOS) {
			const found = await shown(name);
			expect(hostReads(found, /interrupt page/)).not.toContain(true);
			expect(new Set(hostReads(found, /monitor page/))).toEqual(new Set(found.connection === null ? [] : [true]));
		}
	});

	it("undoes a failed confidential connection: an error by CPUID, another connection by trying", async () => {
		const byCpuid = await shown("fallback-cpuid");
		expect(byCpuid).toMatchObject({ connection: null, channels: [] });
		const byTrying = await shown("fallback-try");
		expect(byTrying.connection).toEqual({ version: Version.V6_0, features: 0, confidential: false });
		expect([...paths(byTrying, "post")]).toEqual(["direct paravisor true", "ghcb hypervisor false"]);
		expect(byTrying.channels).toMatchObject([{ device: "host", ring: "shared" }]);
	});

	it("rescinds under load: an open that waits ends, and requests stay unanswered", async () => {
		const text = scenarioText(await shown("rescind"));
		expect(text).toMatch(/\* open channel 1: rescinded\n/);
		expect(text).toMatch(/0 of 8 requests were answered/);
	});

	it("is the same as data", async () => {
		const found = await shown("relayed");
		const data = JSON.parse(JSON.stringify(scenarioData(found)));
		expect(data).toMatchObject({ command: "vmbus demo", scenario: "relayed", platform: "snp", left: { used: 0 } });
		expect(data.events).toHaveLength(found.events.length);
		expect(data.events[0]).toMatchObject({ step: 1, kind: "note" });
		const contact = data.events.find((event: { kind: string }) => event.kind === "post");
		expect(contact).toMatchObject({ path: "direct", by: "paravisor", trusted: true, status: 0 });
		expect(contact.payload).toMatch(/^0e00000000000000/);
	});

	it("puts every message, signal and packet into the capture", async () => {
		const found = await shown("relayed");
		const bytes = scenarioCapture(found);
		const view = new DataView(bytes.buffer);
		const kinds: number[] = [];
		for (let at = 0; at < bytes.length; at += view.getUint32(at + 4, true))
			if (view.getUint32(at, true) === 6) kinds.push(bytes[at + 29] as number);
		const count = (...names: string[]) => found.events.filter(({ kind }) => names.includes(kind)).length;
		expect(kinds.filter((kind) => kind === 1)).toHaveLength(count("post", "message", "relay"));
		expect(kinds.filter((kind) => kind === 2)).toHaveLength(count("packet"));
		expect(kinds.filter((kind) => kind === 3)).toHaveLength(count("signal"));
	});
});

describe("coco-dma vmbus demo", () => {
	it("lists the scenarios, and without one says so", async () => {
		const { code, out } = await coco("vmbus", "demo", "--list");
		expect([code, out.trimEnd().split("\n").length]).toEqual([0, SYSTEM_SCENARIOS.length]);
		const without = await coco("vmbus", "demo");
		expect([without.code, without.out]).toEqual([2, out]);
		expect(without.err).toBe("coco-dma vmbus: demo: expected --scenario NAME: the names are listed above\n");
	});

	it.each([
		[["--scenario", "x"], /^coco-dma vmbus: --scenario: expected no-paravisor, .*, not "x"\n$/],
		[
			["--scenario", "paravisor", "--platform", "vbs"],
			/^coco-dma vmbus: --platform: scenario paravisor runs on snp, tdx/,
		],
		[["--scenario", "paravisor", "--platform", "x"], /^coco-dma vmbus: --platform: .*, not "x"\n$/],
		[["paravisor"], /^coco-dma vmbus: demo: expected options only, not "paravisor"/],
		[["--scenario", "paravisor", "--pcapng", "-"], /^coco-dma vmbus: --pcapng: expected a FILE\n$/],
		[["--scenario", "paravisor", "--json", "/nowhere/x"], /^coco-dma vmbus: \/nowhere\/x: cannot be written/],
	])("refuses %j in one line", async (args, message) => {
		const { code, out, err } = await coco("vmbus", "demo", ...args);
		expect([code, out]).toEqual([2, ""]);
		expect(err).toMatch(message);
		expect(err.trimEnd().split("\n")).toHaveLength(1);
	});

	it("writes JSON and a capture beside the text, or JSON alone", async () => {
		const folder = temporaryFolder();
		const [json, capture] = [join(folder, "demo.json"), join(folder, "demo.pcapng")];
		const { code, out } = await coco("vmbus", "demo", "--scenario", "rescind", "--json", json, "--pcapng", capture);
		expect([code, out.startsWith("rescind on snp: ")]).toEqual([0, true]);
		const data = readFileSync(json, "utf8");
		expect((await coco("vmbus", "demo", "--scenario", "rescind", "--json", "-")).out).toBe(data);
		expect(readFileSync(capture).readUInt32LE(0)).toBe(0x0a0d0d0a);
	});
});
