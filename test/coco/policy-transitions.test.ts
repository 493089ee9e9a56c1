import { describe, expect, it } from "vitest";
import type { Policy } from "../../src/coco/rules/policy.ts";
import { TrustError, type TrustStatus } from "../../src/coco/trust/error.ts";
import { TdispState } from "../../src/coco/trust/tdisp.ts";
import { Direction } from "../../src/types.ts";
import { smallGuest, TDISP, trustNow } from "../helpers/trust-guest.ts";

const RULES = ["checked", "anytime", "before-driver"] as const;

async function deviceUnder(transitions: NonNullable<Policy["transitions"]>) {
	const policy: Policy = {
		name: "mine",
		title: "a test's",
		source: "a test",
		kernel: "linux-7.3",
		acceptance: "tdisp",
		transitions,
	};
	const guest = await smallGuest({ platform: "tdx", policy });
	const device = guest.addDevice({ tdisp: TDISP });
	if (device.trust === null) throw new Error("no TDISP interface");
	return { guest, device, trust: device.trust };
}

function statusOf(call: () => unknown): TrustStatus | "done" {
	try {
		call();
		return "done";
	} catch (error) {
		if (error instanceof TrustError) return error.status;
		throw error;
	}
}

describe("when trust may change", () => {
	it.each(RULES)("%s: before a driver binds, with nothing held, it may", async (rule) => {
		const { device, trust } = await deviceUnder(rule);
		trustNow(device);
		expect(device.accepted).toBe(true);
		expect(statusOf(() => trust.reject("changed my mind"))).toBe("done");
	});

	it.each([
		["checked", "BUSY"],
		["anytime", "done"],
		["before-driver", "DRIVER_WAS_BOUND"],
	] as const)("%s: with a driver bound, reject answers %s", async (rule, status) => {
		const { device, trust } = await deviceUnder(rule);
		trustNow(device);
		device.bindDriver();
		expect(statusOf(() => trust.reject("too late"))).toBe(status);
		expect(device.accepted).toBe(rule !== "anytime");
	});

	it.each([
		["checked", "done"],
		["anytime", "done"],
		["before-driver", "DRIVER_WAS_BOUND"],
	] as const)("%s: after a driver was unbound, accept answers %s", async (rule, status) => {
		const { device, trust } = await deviceUnder(rule);
		device.bindDriver();
		device.unbindDriver();
		trust.lock();
		trust.collectEvidence();
		expect(statusOf(() => trust.accept())).toBe(status);
		expect(statusOf(() => trust.start())).toBe("done");
		expect(device.accepted).toBe(status === "done");
	});

	it.each([
		["checked", "BUSY"],
		["anytime", "done"],
		["before-driver", "BUSY"],
	] as const)("%s: with a mapping held, accept answers %s", async (rule, status) => {
		const { guest, device, trust } = await deviceUnder(rule);
		trust.lock();
		trust.collectEvidence();
		trust.start();
		const dma = device.map(guest.pages.alloc(1), 4096, Direction.ToDevice);
		expect(statusOf(() => trust.accept())).toBe(status);
		expect(guest.hazards.map(({ what }) => what)).toEqual(status === "done" ? ["TRUST_CHANGED"] : []);
		if (status === "done") expect(trust.history.at(-1)?.heldAcross?.bounceSlots).toBe(1);
		device.unmap(dma, 4096, Direction.ToDevice);
		expect(guest.pools[0]?.pool.used).toBe(0);
	});

	it.each(RULES)("%s: the host may stop the device at any time", async (rule) => {
		const { guest, device, trust } = await deviceUnder(rule);
		trustNow(device);
		device.bindDriver();
		trust.stop();
		expect([device.accepted, trust.state]).toEqual([false, TdispState.Unlocked]);
		expect(guest.hazards).toEqual([]);
		device.map(guest.pages.alloc(1), 4096, Direction.ToDevice);
		trust.lock();
		trust.collectEvidence();
		trust.start();
		expect(guest.hazards.map(({ what }) => what)).toEqual(["TRUST_CHANGED", "TRUST_CHANGED"]);
	});
});
