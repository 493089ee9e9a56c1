import { describe, expect, it } from "vitest";
import { CallCode } from "../../src/synic/hypercall.ts";
import type { SynicInterrupt } from "../../src/synic/interrupts.ts";
import type { HypercallReport } from "../../src/synic/machine.ts";
import { pagesView } from "../../src/vmbus/server/memory-view.ts";
import { platformOf } from "../../src/vmbus/system/options.ts";
import { VmbusSystem } from "../../src/vmbus/system/system.ts";
import { DeviceType } from "../../src/vmbus/wire/guid.ts";
import { OfferFlag } from "../../src/vmbus/wire/versions.ts";
import { device } from "./server-guest.ts";

const CONFIDENTIAL = {
	platform: platformOf("snp", true),
	paravisorServes: true,
	confidential: { how: "cpuid", eax: 1 << 3 },
} as const;
const network = (n: number, flags = 0) => device(n, { interfaceId: DeviceType.Network, flags });

function fail(): never {
	throw new Error("there is no such page");
}

describe("a whole system", () => {
	it("tells of each interrupt and each hypercall, and who took it", async () => {
		const interrupts: SynicInterrupt[] = [];
		const calls: HypercallReport[] = [];
		const system = await VmbusSystem.create({
			...CONFIDENTIAL,
			onInterrupt: (interrupt) => interrupts.push(interrupt),
			onHypercall: (report) => calls.push(report),
		});
		system.paravisor?.offer(network(1, OfferFlag.ConfidentialRingBuffer));
		expect(system.guest.connect().status).toBe("ok");
		expect(system.guest.open(1, { sendPages: 2, receivePages: 2 }).status).toBe("ok");
		system.send(1, new Uint8Array(8), { id: 1n, wantsCompletion: true });
		expect(calls.map(({ code, path, by, trusted }) => [code, path, by, trusted])).toEqual([
			...Array(4).fill([CallCode.PostMessage, "direct", "paravisor", true]),
			[CallCode.SignalEvent, "ghcb", "paravisor", false],
		]);
		expect(new Set(interrupts.map(({ source, sint, vector }) => `${source} ${sint} ${vector}`))).toEqual(
			new Set(["paravisor 2 243"]),
		);
		// four answers, an offer and the packet's completion
		expect(interrupts).toHaveLength(6);
	});

	it("delivers 2,047 offers through one slot in order, of which 64 wait at most, and none is lost", async () => {
		const system = await VmbusSystem.create({ ...CONFIDENTIAL, records: false });
		for (let n = 1; n <= 2047; n++) expect(system.paravisor?.offer(network(n))).toBe(n);
		expect(system.paravisor?.offer(network(2048))).toBe("too-many-channels");
		expect(system.guest.connect().status).toBe("ok");
		expect([...system.guest.channels.keys()]).toEqual(Array.from({ length: 2047 }, (_, i) => i + 1));
		expect(system.paravisor?.server.waiting).toBe(0);
		expect(system.guest.unload().status).toBe("ok");
	});

	it.each([
		["TDX alone: in the shared input page", platformOf("tdx", false), false, "hypercall input", true],
		["TDX past a paravisor: in the shared post page", platformOf("tdx", true), false, "post message", true],
		["TDX, confidential: in the private post page", platformOf("tdx", true), true, "post message", false],
	])("passes messages in a page that the other side may read: %s", async (_, platform, served, purpose, hostReads) => {
		const { paravisorServes, confidential } = CONFIDENTIAL;
		const system = await VmbusSystem.create({ platform, ...(served ? { paravisorServes, confidential } : {}) });
		expect(system.guest.connect().status).toBe("ok");
		const { gpa } = system.pages.runs.find((run) => run.purpose === purpose) ?? fail();
		// REQUESTOFFERS on connection 1 was the last
		expect([...system.engine.ram.read(gpa, 20)]).toEqual([1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0, 3, 0, 0, 0]);
		expect(typeof pagesView(system.engine, "shared").read(gpa, 20)).toBe(hostReads ? "object" : "string");
	});

	it("says what does not go together", async () => {
		await expect(VmbusSystem.create({ platform: platformOf("snp", false), paravisorServes: true })).rejects.toThrow(
			"paravisorServes: the platform has no paravisor",
		);
		await expect(VmbusSystem.create({ platform: platformOf("snp", true), relays: true })).rejects.toThrow(
			"relays: a relay needs paravisorServes",
		);
		await expect(VmbusSystem.create({ platform: platformOf("snp", true), ramBytes: 2 ** 20 })).rejects.toThrow(
			"engine: its RAM must start at gpa 0, with 2 MiB or more in one region",
		);
	});

	it("refuses a channel whose guest chose a connection id that is taken, and goes on", async () => {
		const system = await VmbusSystem.create({ platform: platformOf("none", false), features: 1 });
		for (const n of [1, 2]) system.host.offer(network(n));
		expect(system.guest.connect().status).toBe("ok");
		const rings = { sendPages: 2, receivePages: 2 };
		for (const connectionId of [1, 4])
			expect(system.guest.open(1, { ...rings, signal: { connectionId, eventFlag: 1 } }).status).toBe("refused");
		expect(system.guest.open(1, { ...rings, signal: { connectionId: 0x5000, eventFlag: 9 } }).status).toBe("ok");
		expect(system.guest.open(2, { ...rings, signal: { connectionId: 0x5000, eventFlag: 8 } }).status).toBe("refused");
		expect(system.guest.open(2, rings).status).toBe("ok");
	});
});
