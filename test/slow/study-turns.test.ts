import { describe, expect, it } from "vitest";
import { comparePolicies, compareWorkload } from "../../src/study/compare.ts";
import { localRunner, type Runner } from "../../src/study/runner.ts";
import { SMALL, type Step, workloadOf } from "../helpers/workload.ts";

const write = (bytes: number): Step => ({ read: false, bytes, depth: 0, ns: 1000 });
const WORK = workloadOf(Array.from({ length: 40 }, (_, i) => write(i % 2 === 0 ? 4096 : 16384)));

/** A runner that tells whose pass it is. */
function told(turns: string[]): Runner {
	const runner = localRunner();
	return {
		...runner,
		open: async (workload, choice, size) => {
			const name = "mode" in choice ? choice.mode : String(choice.policy);
			const run = await runner.open(workload, choice, size);
			if ("what" in run) return run;
			return {
				pass: () => {
					turns.push(name);
					return run.pass();
				},
				result: () => run.result(),
				end: () => {
					turns.push(`end ${name}`);
					run.end();
				},
			};
		},
	};
}

describe("runs that are compared", () => {
	it("take turns pass by pass, the first to go another one each round", async () => {
		const turns: string[] = [];
		const { results } = await compareWorkload(WORK, { ...SMALL, repeat: 3, runner: told(turns) });
		expect(turns.slice(0, 6)).toEqual(["direct", "bounce", "bounce", "direct", "direct", "bounce"]);
		expect(turns.slice(6).sort()).toEqual(["end bounce", "end direct"]);
		for (const { passes } of results) expect(passes.dmaNs).toHaveLength(3);
		const [direct, bounce] = results;
		expect(direct?.againstFirst).toBeNull();
		expect(bounce?.againstFirst?.dma?.value).toBeCloseTo((bounce?.dmaNs ?? 0) / (direct?.dmaNs ?? 1), 9);
	});

	it("are a few at a time where they are many, and each has its turns with the first", async () => {
		const turns: string[] = [];
		const names = ["force-bounce", "rfc-v3", "cc-accepted-bus", "driver-flag", "cc-accepted"];
		const policies = [...names, ...names.map((name) => `${name}+force`)];
		const { results } = await comparePolicies(WORK, { ...SMALL, policies, repeat: 1, runner: told(turns) });
		expect(results.map(({ policy }) => policy)).toEqual(policies);
		expect(turns.filter((turn) => turn === "force-bounce")).toHaveLength(2);
		for (const [i, { againstFirst, cost }] of results.entries()) {
			expect(cost).not.toBeNull();
			expect(againstFirst === null).toBe(i === 0 || cost?.firstRefused !== null);
		}
		expect(turns.filter((turn) => turn.startsWith("end"))).toHaveLength(policies.length);
	});

	it("end where one of them fails", async () => {
		const turns: string[] = [];
		const runner = told(turns);
		let opened = 0;
		const failing: Runner = {
			...runner,
			open: (...args) => (++opened === 2 ? Promise.reject(new Error("no room")) : runner.open(...args)),
		};
		await expect(compareWorkload(WORK, { ...SMALL, repeat: 1, runner: failing })).rejects.toThrow("no room");
		expect(turns).toEqual(["end direct"]);
	});

	it("have no p50 that their mean does not allow, and the clock's cost in neither", async () => {
		const { results } = await compareWorkload(WORK, { ...SMALL, repeat: 3 });
		for (const { latency, clockNs, dmaNs, requests } of results) {
			const mean = dmaNs / requests;
			expect(clockNs).toBeGreaterThan(0);
			for (const ns of latency?.curve.map((point) => point.ns) ?? [])
				if (ns !== null) expect(ns).toBeGreaterThan(2 * clockNs);
			// half of the requests take no more than twice the mean, whatever the rest do
			if (latency?.p50Ns != null) expect(latency.p50Ns).toBeLessThanOrEqual(2.2 * mean);
		}
	});

	it("say what both parts together take beyond the two alone", async () => {
		const { results } = await compareWorkload(WORK, { ...SMALL, repeat: 3 });
		for (const { interaction, passes } of results) {
			const more = passes.totalNs.map((ns, i) => ns - (passes.dmaNs[i] ?? 0) - (passes.deviceNs[i] ?? 0));
			expect(more).toContain(interaction.ns);
		}
	});
});
