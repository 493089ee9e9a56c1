import { describe, expect, it } from "vitest";
import { parsePolicy } from "../../src/policy/parse.ts";
import { scenarioNamed } from "../../src/policy/scenarios.ts";
import { cellText } from "../../src/report/verdict.ts";
import type { Cell, CellPart } from "../../src/study/cell.ts";
import { runMatrix } from "../../src/study/matrix.ts";
import { makeStage } from "../../src/study/stage.ts";

/** A policy on a scenario, run. */
async function cellOf(policy: string, scenario: string): Promise<Cell> {
	const { rows } = await runMatrix({ policies: [policy], scenarios: [scenario], cost: false });
	const cell = rows[0]?.cells[0];
	if (cell === undefined) throw new Error("no cell");
	return cell;
}

/** The part of a name on the cell's own platform. */
function partOf({ parts, platform }: Cell, name: string): CellPart {
	const part = parts.find(({ verdict }) => verdict.part === name && verdict.platform === platform);
	if (part === undefined) throw new Error(`no part ${name}`);
	return part;
}

const TRANSITION = "trust changes under a mapping";

describe("offers", () => {
	it("are refused by name where they say external memory without a confidential ring, under every policy", async () => {
		for (const policy of ["force-bounce", "null-pool", "cc-accepted-bus"]) {
			const cell = await cellOf(policy, "storvsc-external-only");
			expect(cell.parts[0]?.verdict.cause, policy).toMatchObject({ what: "trust", status: "EXTERNAL_WITHOUT_RING" });
			expect(cellText(cell)).toContain("EXTERNAL_WITHOUT_RING");
		}
	});

	it("count only once their evidence is accepted, which a bound driver prevents unless the policy lets it", async () => {
		const before = await makeStage(parsePolicy("cc-accepted-bus+evidence-pending"), scenarioNamed("storvsc-full"));
		expect(before.device?.accepted).toBe(false);
		expect(() => before.device?.acceptEvidence()).toThrow("BUSY");
		before.device?.unbindDriver();
		before.device?.acceptEvidence();
		expect([before.device?.accepted, before.device?.believed, before.device?.t]).toEqual([true, true, 1]);
		expect((await cellOf("cc-accepted-bus", "storvsc-full")).kind).toBe("private");
		const pending = await cellOf("cc-accepted-bus+evidence-pending", "storvsc-full");
		expect([pending.kind, pending.confidential]).toEqual(["exposed", false]);
		expect(partOf(pending, TRANSITION).verdict.cause).toEqual({ what: "transition", status: "BUSY" });
		const anytime = await cellOf("static-pool+evidence-pending", "storvsc-full");
		expect(partOf(anytime, TRANSITION).verdict).toMatchObject({ cause: null, hazards: ["TRUST_CHANGED"] });
	});
});

describe("a driver", () => {
	it("that flips its flag under a mapping has its device decode the address as what it is not any more", async () => {
		const cell = await cellOf("driver-flag+flag-flips", "storvsc-full-c-bit");
		expect(cell.parts[0]?.verdict).toMatchObject({
			cause: { what: "device-gets", result: "ciphertext" },
			hazards: ["TRUST_CHANGED"],
		});
		// where addresses carry no bit the bytes arrive, and the hazard stands in the cell all the same
		const plain = await cellOf("driver-flag+flag-flips", "storvsc-full");
		expect(cellText(plain)).toMatch(/^private, hazard: trust changed under held memory/);
		expect(cellText(await cellOf("driver-flag+flag-flips", "legacy-virtio"))).not.toContain("hazard");
	});

	it("that is not loaded maps nothing, and one from which secrets are withheld lays open none", async () => {
		const none = await cellOf("linux-7.3+no-driver", "storvsc-full");
		expect(none.parts.map(({ verdict }) => verdict.cause)).toEqual(none.parts.map(() => ({ what: "no-driver" })));
		expect((await cellOf("linux-7.3", "storvsc-full")).kind).toBe("BREACH");
		const withheld = await cellOf("linux-7.3+no-secrets", "storvsc-full");
		expect([withheld.kind, withheld.breachedBytes, withheld.exposedBytes > 0]).toEqual(["exposed", 0, true]);
	});
});

describe("a TDISP interface", () => {
	it.each(["tdisp-locked", "tdisp-error"])(
		"that is not in RUN has T=0 and bounces, accepted or not: %s",
		async (scenario) => {
			const stage = await makeStage(parsePolicy("cc-accepted"), scenarioNamed(scenario));
			expect([stage.device?.t, stage.device?.accepted]).toEqual([0, false]);
			const cell = await cellOf("cc-accepted", scenario);
			expect(cell.parts[0]).toMatchObject({ how: "bounce", verdict: { kind: "exposed" } });
		},
	);

	it("that is accepted late is accepted if the policy lets it, and its static pool is stale by then", async () => {
		const name = "4 KiB TO_DEVICE above 4 GiB";
		const checked = await cellOf("cc-accepted", "tdisp-late");
		expect([checked.confidential, partOf(checked, name).verdict.kind]).toEqual([false, "exposed"]);
		const stale = await cellOf("static-pool", "tdisp-late");
		expect([stale.confidential, partOf(stale, name).verdict.cause]).toEqual([
			true,
			{ what: "status", status: "POOL_STATE" },
		]);
		// accepted in time it has the private pool
		expect(partOf(await cellOf("static-pool+mask-32", "tdisp-nvme"), name)).toMatchObject({
			how: "bounce",
			verdict: { kind: "private" },
		});
	});

	it("behind a port that anybody can reach is trusted by cc_accepted, and not by one property for both", async () => {
		expect((await cellOf("cc-accepted", "tdisp-external")).kind).toBe("private");
		expect((await cellOf("one-property", "tdisp-external")).parts[0]).toMatchObject({
			how: "bounce",
			verdict: { kind: "BREACH" },
		});
		expect((await cellOf("one-property", "tdisp-nvme")).kind).toBe("private");
	});
});

describe("dma_capable's answer", () => {
	it("chooses the remedy: a private pool for ERANGE, the shared one for EPERM, and the wrong one breaches", async () => {
		const high = "4 KiB TO_DEVICE above 4 GiB";
		const on = async (policy: string, scenario: string) => {
			const { rows } = await runMatrix({ policies: [policy], scenarios: [scenario], platform: "tdx", cost: false });
			return partOf(rows[0]?.cells[0] as Cell, high);
		};
		expect(await on("capable-codes", "tdisp-nvme-32")).toMatchObject({ how: "bounce", verdict: { kind: "private" } });
		expect(await on("capable-codes", "legacy-virtio")).toMatchObject({ how: "bounce", verdict: { kind: "exposed" } });
		expect(await on("capable-codes-shared", "tdisp-nvme-32")).toMatchObject({ verdict: { kind: "BREACH" } });
		expect(await on("limits-reinspected", "tdisp-nvme-32")).toMatchObject({
			how: "bounce",
			verdict: { kind: "private" },
		});
	});

	it("looked at again finds that the C-bit is beyond the mask in every private pool, before anything is copied", async () => {
		for (const [policy, status] of [
			["capable-codes", "SLOTS_BEYOND_MASK"],
			["limits-reinspected", "BEYOND_MASK"],
		])
			expect((await cellOf(policy as string, "tdisp-nvme-32")).parts[0]?.verdict.cause).toEqual({
				what: "status",
				status,
			});
	});
});

describe("every cell", () => {
	it("has 512 KiB beside dma_max_mapping_size: refused with the most that fits where it bounces, whole where it does not", async () => {
		const bounced = partOf(await cellOf("force-bounce", "legacy-virtio"), "512 KiB TO_DEVICE");
		expect(bounced.verdict.cause).toEqual({ what: "over-max", bytes: 524288, maxBytes: 262144 });
		const nvme = partOf(await cellOf("linux-7.3", "tdisp-nvme"), "512 KiB TO_DEVICE");
		expect(nvme.verdict.cause).toEqual({ what: "over-max", bytes: 524288, maxBytes: 258048 });
		expect(partOf(await cellOf("cc-accepted", "tdisp-nvme"), "512 KiB TO_DEVICE")).toMatchObject({
			how: "direct",
			verdict: { kind: "private", cause: null },
		});
	});

	it("has REQUIRE_COHERENT: never bounced, refused where it is not direct, and unknown to 6.12", async () => {
		const name = "4 KiB TO_DEVICE, REQUIRE_COHERENT";
		expect(partOf(await cellOf("cc-accepted", "tdisp-nvme"), name)).toMatchObject({ how: "direct" });
		expect(partOf(await cellOf("linux-7.3", "legacy-virtio"), name).verdict.kind).toBe("refused");
		expect(partOf(await cellOf("force-bounce", "legacy-virtio"), name).verdict).toMatchObject({
			kind: "not applicable",
			cause: { what: "not-applicable", needs: "attribute" },
		});
	});

	it("says that the policy refuses to bounce where it does, and not that there is no pool", async () => {
		for (const [policy, scenario] of [
			["cc-accepted+strict+force", "tdisp-nvme"],
			["rfc-v3+strict", "storvsc-full"],
		] as const)
			expect(cellText(await cellOf(policy, scenario))).toMatch(/^refused: the policy refuses to bounce/);
	});

	it("counts a neighbour's private bytes in a shared page as a breach", async () => {
		const small = partOf(await cellOf("linux-7.3+share-in-place", "restricted-pool"), "32 B FROM_DEVICE");
		const cell = await cellOf("linux-7.3+share-in-place", "legacy-virtio");
		for (const { verdict } of [small, ...cell.parts])
			expect(verdict.kind === "BREACH").toBe(verdict.neighbourBytes > 0 || (verdict.confidential && verdict.bytes > 0));
	});

	it("names what it logs: swiotlb=force in a confidential guest is warned of, where the policy has the warning", async () => {
		expect((await cellOf("force-warned+force", "tdisp-nvme")).messages).toEqual([
			expect.stringContaining("do not run confidential workloads with it"),
		]);
		for (const policy of ["force-warned", "cc-accepted+force"])
			expect((await cellOf(policy, "tdisp-nvme")).messages, policy).toEqual([]);
	});
});

describe("pools, hosts and peers", () => {
	it("uses a default pool that could not be decrypted in 6.12, to no avail, and none of it in 7.3", async () => {
		for (const [scenario, result] of [
			["legacy-virtio", "ciphertext"],
			["storvsc-plain", "ciphertext"],
		] as const) {
			const before = await cellOf("force-bounce+pool-undecrypted", scenario);
			expect(before.parts[0]).toMatchObject({ how: "bounce", verdict: { cause: { what: "device-gets", result } } });
			const after = await cellOf("linux-7.3+pool-undecrypted", scenario);
			expect(after.parts[0]?.verdict.cause, scenario).toEqual({ what: "status", status: "POOL_FULL" });
		}
	});

	it("bounces a device below the C-bit of an encrypted host in decrypted slots, and gives it decrypted coherent memory", async () => {
		for (const policy of ["force-bounce", "linux-7.3"]) {
			const cell = await cellOf(policy, "sme-host");
			expect(cell.parts[0], policy).toMatchObject({ how: "bounce", verdict: { kind: "exposed", cause: null } });
			expect(partOf(cell, "coherent 4 KiB").verdict, policy).toMatchObject({ kind: "exposed", cause: null });
		}
	});

	it("has a peer's page by map_page beside its MMIO by map_resource: 6.12 bounces neither, 7.3 the page alone", async () => {
		const peer = async (policy: string) => {
			const cell = await cellOf(policy, "legacy-virtio");
			return [partOf(cell, "a peer's page, by map_page"), partOf(cell, "a peer's MMIO")];
		};
		expect(await peer("force-bounce")).toMatchObject([
			{ how: "-", verdict: { cause: { status: "BOUNCE_REFUSED" } } },
			{ how: "direct", verdict: { cause: null } },
		]);
		expect(await peer("linux-7.3")).toMatchObject([
			{ how: "bounce", verdict: { cause: null } },
			{ how: "-", verdict: { cause: { status: "NEEDS_SHARED" } } },
		]);
	});
});

describe("VMBus scenarios", () => {
	it("stand under a paravisor, and the C-bit has a column of its own", async () => {
		const { vmbus, scenarios } = await runMatrix({
			policies: ["null-pool"],
			scenarios: ["storvsc-plain", "storvsc-ring", "storvsc-full", "storvsc-full-c-bit"],
			cost: false,
		});
		expect(scenarios.map(({ platform }) => platform)).toEqual(["snp-vtom", "snp-vtom", "snp-vtom", "snp"]);
		expect(new Set(vmbus.map(({ scenario }) => scenario))).toEqual(
			new Set(["storvsc-plain", "storvsc-ring", "storvsc-full"]),
		);
		const { parts } = await cellOf("null-pool", "storvsc-full");
		expect(new Set(parts.map(({ verdict }) => verdict.platform))).toEqual(new Set(["snp-vtom", "tdx"]));
	});
});
