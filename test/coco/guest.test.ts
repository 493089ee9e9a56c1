import { describe, expect, it } from "vitest";
import type { GuestDeviceOptions } from "../../src/coco/guest/device.ts";
import type { GuestOptions } from "../../src/coco/guest/guest.ts";
import { PLATFORMS, type PlatformName } from "../../src/coco/platform/platform.ts";
import type { KernelName } from "../../src/coco/rules/kernel.ts";
import { TrustError } from "../../src/coco/trust/error.ts";
import { PageState } from "../../src/memory/ram.ts";
import { statusName } from "../../src/status.ts";
import { Direction } from "../../src/types.ts";
import { defaultPoolShared, isGuest } from "../helpers/kernel-facts.ts";
import {
	acceptedDevice,
	bitsOf,
	CONFIDENTIAL,
	KERNEL_NAMES,
	MIB,
	NAMES,
	OFFER,
	smallGuest,
	TDISP,
	takePages,
	trustNow,
} from "../helpers/trust-guest.ts";

const { Private, Shared, Hidden } = PageState;
const { ToDevice, FromDevice, Bidirectional } = Direction;
const BOTH = NAMES.flatMap((platform) => KERNEL_NAMES.map((kernel) => [platform, kernel] as const));
const statusOf = (result: number) => (result < 0 ? statusName(result) : "OK");

/** The name of what a call is refused with. */
async function refusal(call: () => unknown): Promise<string> {
	try {
		await call();
	} catch (error) {
		if (error instanceof TrustError) return error.status;
		return `${(error as Error).name}: ${(error as Error).message}`;
	}
	return "OK";
}

describe("the pools of a guest", () => {
	it.each(BOTH)("lie where they are asked for, in their state and form (%s, %s)", async (name, kernel) => {
		const platform = PLATFORMS[name];
		const confidential = platform.hostRead !== "plain";
		const guest = await smallGuest({
			platform: name,
			kernel,
			swiotlb: "512,1,force",
			pools: [
				{ kind: "restricted", size: "300K" },
				{ kind: "bus", name: "pci", size: 512 * 1024, areas: 2, belowGpa: 4 * MIB },
				...(confidential ? [{ kind: "private", size: 262144 } as const] : []),
				...(platform.hiddenPages ? [{ kind: "bus", name: "hidden", size: "256K", hidden: true } as const] : []),
			],
		});
		const own = defaultPoolShared(kernel, name) || !confidential ? Shared : Private;
		const expected: [string, string, number, number, number, PageState][] = [
			["default", "default", 7 * MIB, 512, 1, own],
			["restricted", "restricted", 7 * MIB - 512 * 1024, 256, 1, Shared],
			["bus", "pci", 3.5 * MIB, 256, 2, Shared],
		];
		if (confidential) expected.push(["private", "private", 6.25 * MIB, 128, 1, Private]);
		if (platform.hiddenPages) expected.push(["bus", "hidden", 6 * MIB, 128, 1, Hidden]);
		expect(guest.pools.map((one) => [one.kind, one.name, one.pool.start, one.pool.slabs, one.pool.areaCount])).toEqual(
			expected.map((one) => one.slice(0, 5)),
		);
		const buffer = takePages(guest, 1);
		for (const [i, one] of guest.pools.entries()) {
			const { pool } = one;
			const state = (expected[i] as (typeof expected)[number])[5];
			for (let at = pool.start as number; at < pool.start + pool.bytes; at += 4096)
				expect(guest.engine.ram.pageState(at)).toBe(state);
			expect([one.restricted, one.disabled, one.growing]).toEqual([one.kind === "restricted", false, null]);
			expect(guest.pages.alloc(1, { belowGpa: pool.start + 4096 })).not.toBe(pool.start);
			// a pool is used by whom it is for: its address has the form of its pages
			const isPrivate = one.kind === "private";
			const device = guest.addDevice({ pools: [one], matcher: () => one, ...(isPrivate ? { offer: OFFER } : {}) });
			const dma = device.tryMap(buffer, 100, ToDevice);
			if (isPrivate && name === "sme" && kernel === "linux-7.3") {
				// on an encrypted host what bounces has to be within every device's reach
				expect(statusOf(dma)).toBe("POOL_STATE");
				continue;
			}
			expect([one.name, statusOf(dma), Math.max(dma, 0)]).toEqual([
				one.name,
				"OK",
				pool.start + bitsOf(name, state === Private ? "private" : "shared"),
			]);
			device.unmap(dma, 100, ToDevice);
		}
		expect(guest.hazards).toEqual([]);
	});

	it("are refused by name before anything runs", async () => {
		const refused: [string, GuestOptions["platform"], Partial<GuestOptions>][] = [
			["NO_PRIVATE_MEMORY", "none", { pools: [{ kind: "private", size: "1M" }] }],
			["NO_HIDDEN_MEMORY", "pkvm", { pools: [{ kind: "bus", size: "1M", hidden: true }] }],
			["NO_HIDDEN_MEMORY", "tdx", { pools: [{ kind: "restricted", size: "1M", hidden: true }] }],
		];
		for (const [status, platform, options] of refused) {
			let started = false;
			const call = () => smallGuest({ platform, ...options, onConverter: () => (started = true) });
			expect([await refusal(call), started]).toEqual([status, false]);
		}
		const wrong: [RegExp, Partial<GuestOptions>][] = [
			[
				/platform must be one of snp, snp-vtom, tdx, cca, pkvm, s390-pv, sme, arm64, none, not "sgx"/,
				{ platform: "sgx" as "snp" },
			],
			[/kernel must be one of linux-6.12, linux-7.3, not "linux-5"/, { kernel: "linux-5" as "linux-6.12" }],
			[/growthSlabs must be a whole number from 0 to 2\^20, not 1.5/, { growthSlabs: 1.5 }],
			[/growthSlabs/, { growthSlabs: -128 }],
			[/power of two/, { pools: [{ kind: "bus", size: "1M", areas: 3 }] }],
			[/0 bytes are not 256 KiB/, { pools: [{ kind: "bus", size: 0 }] }],
			[/not 256 KiB and more in each of 2 areas/, { pools: [{ kind: "bus", size: "256K", areas: 2 }] }],
			[/384 slots are no power of two/, { pools: [{ kind: "bus", size: "768K", areas: 2 }] }],
			[/a restricted pool has one area/, { pools: [{ kind: "restricted", size: "1M", areas: 2 }] }],
			[/fits into no stretch/, { pools: [{ kind: "bus", size: "16M" }] }],
			[/fits into no stretch/, { pools: [{ kind: "bus", size: "1M", belowGpa: 4096 }] }],
			[/reserved range .* is not in RAM/, { reserved: [{ gpa: 8 * MIB, bytes: 4096 }] }],
			[/swiotlb/, { swiotlb: "lots" }],
		];
		for (const [message, options] of wrong)
			await expect(smallGuest({ platform: "snp", ...options })).rejects.toThrow(message);
	});

	/** A guest whose default pool does not decrypt, for each step that may fail. */
	async function* undecrypted(kernel: KernelName) {
		for (const platform of CONFIDENTIAL.filter((name) => defaultPoolShared(kernel, name))) {
			for (const { step } of PLATFORMS[platform].conversion.steps.toShared)
				yield await smallGuest({
					platform,
					kernel,
					swiotlb: "512,1,force",
					atomicPools: false,
					growthSlabs: 1024,
					onConverter: (converter) => converter.failAt(step),
				});
		}
	}

	it("serve nothing under Linux 7.3 when their pages fail to convert", async () => {
		for await (const guest of undecrypted("linux-7.3")) {
			expect(guest.messages).toEqual(["Failed to decrypt default memory pool, disabling it"]);
			expect(guest.hazards).toEqual([]);
			expect(guest.pools[0]).toMatchObject({ disabled: true, growing: null });
			expect(guest.converter.leakedPages).toBe(256);
			expect(statusOf(guest.addDevice().tryMap(takePages(guest, 1), 100, ToDevice))).toBe("POOL_FULL");
			expect(guest.tick().growth).toEqual([]);
		}
	});

	it("serve as they are under Linux 6.12 when their pages fail to convert, which is told as a hazard", async () => {
		for await (const guest of undecrypted("linux-6.12")) {
			expect([guest.messages, guest.hazards.map(({ what }) => what)]).toEqual([[], ["POOL_STATE_UNKNOWN"]]);
			const [one] = guest.pools;
			expect([one?.disabled, guest.converter.leakedPages]).toEqual([false, 0]);
			const { start = 0 } = one?.pool ?? {};
			expect(guest.engine.ram.pageState(start)).toBe(Private);
			const { platform } = guest;
			expect(guest.addDevice().map(takePages(guest, 1), 100, ToDevice)).toBe(
				start + bitsOf(platform.name as PlatformName, "shared"),
			);
		}
	});

	it("that are restricted fail by themselves", async () => {
		const pools = [{ kind: "restricted", size: "1M" }] as const;
		const guest = await smallGuest({
			platform: "cca",
			kernel: "linux-7.3",
			atomicPools: false,
			pools,
			onConverter: (converter) => converter.failAt("host", 2),
		});
		expect(guest.messages).toEqual(["Failed to decrypt restricted DMA pool"]);
		const [standard, restricted] = guest.pools;
		expect([standard?.disabled, restricted?.disabled]).toEqual([false, true]);
		const buffer = takePages(guest, 1);
		// the attach fails, and the device keeps the default pool
		const kept = guest.addDevice({ pools: [restricted as (typeof guest.pools)[number]] });
		expect([kept.attachError, kept.pool]).toEqual([-5, standard]);
		expect(statusOf(kept.tryMap(buffer, 100, ToDevice))).toBe("OK");
		expect(guest.addDevice()).toMatchObject({ attachError: null, pool: standard });
	});
});

describe("a device of a guest", () => {
	it("is refused when its options exclude each other or its offer claims what cannot be", async () => {
		const guest = await smallGuest({ platform: "snp", pools: [{ kind: "bus", size: "256K" }] });
		const foreign = (await smallGuest({ platform: "snp" })).pools;
		const { flags, connection } = OFFER;
		const refused: [string, GuestDeviceOptions][] = [
			["EXTERNAL_WITHOUT_RING", { offer: { flags: { ...flags, coRingBuffer: false }, connection } }],
			["CONNECTION_NOT_CONFIDENTIAL", { offer: { flags, connection: { ...connection, confidential: false } } }],
			["VERSION_TOO_OLD", { offer: { flags, connection: { ...connection, version: 0x50003 } } }],
			["RangeError: device: trusted by tdisp or by offer, not by both", { offer: OFFER, tdisp: TDISP }],
			["RangeError: device: a matcher needs pools to choose from", { matcher: () => null }],
			[
				"RangeError: device: pools: expected pools of this guest (default, bus), not default of another",
				{ pools: foreign },
			],
			["RangeError: device: minAlignMask must be a whole number from 0 to 2^32 - 1, not -1", { minAlignMask: -1 }],
		];
		for (const [status, options] of refused) expect(await refusal(() => guest.addDevice(options))).toBe(status);
		expect([guest.devices, guest.engine.devices]).toEqual([[], []]);
		const { trust } = guest.addDevice({ tdisp: TDISP });
		expect(await refusal(() => trust?.accept())).toBe("NOT_LOCKED");
		trust?.lock();
		expect(await refusal(() => trust?.accept())).toBe("NO_EVIDENCE");
		expect(trust?.accepted).toBe(false);
		const ringOnly = guest.addDevice({ offer: { flags: { ...flags, coExternalMemory: false }, connection } });
		expect([ringOnly.accepted, ringOnly.t]).toEqual([false, 0]);
		expect(guest.addDevice({ offer: OFFER })).toMatchObject({ accepted: true, t: 1 });
	});

	it.each(BOTH)("is decided anew when its trust changes (%s, %s)", async (platform, kernel) => {
		const confidential = PLATFORMS[platform].hostRead !== "plain";
		const guest = await smallGuest({
			platform,
			kernel,
			pools: confidential ? [{ kind: "private", size: "256K" }] : [],
		});
		const device = guest.addDevice({ tdisp: TDISP });
		const buffer = takePages(guest, 1);
		const how = () => {
			const before = device.dma.counters.directMaps;
			device.unmap(device.map(buffer, 4096, Bidirectional), 4096, Bidirectional);
			return [device.pool?.kind, device.dma.counters.directMaps > before ? "direct" : "bounce"];
		};
		const asUntrusted = ["default", isGuest(kernel, platform) ? "bounce" : "direct"];
		expect(how()).toEqual(asUntrusted);
		trustNow(device);
		const knows = kernel === "linux-7.3";
		expect(how()).toEqual(knows ? [confidential ? "private" : "default", "direct"] : asUntrusted);
		expect([device.t, device.accepted]).toEqual([1, true]);
		device.trust?.reject("enough");
		expect([device.t, device.accepted]).toEqual([0, false]);
		expect(how()).toEqual(asUntrusted);
		trustNow(device);
		device.trust?.fault("IDE_FAILURE");
		expect([device.t, ...how()]).toEqual([0, ...asUntrusted]);
	});

	it("gives and takes no trust while it holds anything", async () => {
		const guest = await smallGuest({ platform: "tdx", kernel: "linux-7.3" });
		const device = guest.addDevice({ tdisp: TDISP });
		const buffer = takePages(guest, 2);
		const { trust } = device;
		trust?.lock();
		trust?.collectEvidence();
		device.bindDriver();
		expect(await refusal(() => device.bindDriver())).toBe("BUSY");
		expect(await refusal(() => trust?.accept())).toBe("BUSY");
		device.unbindDriver();
		const bounced = device.map(buffer, 100, ToDevice);
		expect(device.holds()).toEqual({ mappings: 0, bounceSlots: 1, coherentBuffers: 0 });
		expect(await refusal(() => trust?.accept())).toBe("BUSY");
		device.unmap(bounced, 100, ToDevice);
		trust?.accept();
		trust?.start();
		const direct = device.map(buffer, 8192, FromDevice);
		expect(device.holds()).toEqual({ mappings: 1, bounceSlots: 0, coherentBuffers: 0 });
		expect(await refusal(() => trust?.reject("later"))).toBe("BUSY");
		expect(device.accepted).toBe(true);
		// who does not ask is told what was held
		trust?.stop();
		expect(trust?.history.at(-1)?.heldAcross).toMatchObject({ mappings: 1 });
		device.unmap(direct, 8192, FromDevice);
		expect(device.holds()).toEqual({ mappings: 0, bounceSlots: 0, coherentBuffers: 0 });
	});

	it("ends what it holds in a pool that it has left, and gets no new slots there", async () => {
		const guest = await smallGuest({
			platform: "snp",
			kernel: "linux-7.3",
			swiotlb: "512,1,force",
			pools: [{ kind: "private", size: "256K" }],
		});
		const device = acceptedDevice(guest);
		const buffer = takePages(guest, 1);
		const dma = device.map(buffer, 4096, Bidirectional);
		device.write(dma, Uint8Array.of(9));
		device.trust?.stop();
		expect([device.pool?.kind, device.privatePool?.kind]).toEqual(["default", "private"]);
		expect(statusOf(device.tryMap(buffer, 100, ToDevice))).toBe("POOL_STATE");
		device.unmap(dma, 4096, Bidirectional);
		expect([guest.engine.ram.read(buffer, 1)[0], guest.pools[1]?.pool.used]).toEqual([9, 0]);
		expect(device.holds()).toEqual({ mappings: 0, bounceSlots: 0, coherentBuffers: 0 });
		expect(device.privatePool).toBeNull();
		expect(statusOf(device.tryMap(buffer, 100, ToDevice))).toBe("OK");
	});

	it("has the pools that it is given: restricted, a bus's, or several with a matcher", async () => {
		const pools = [
			{ kind: "restricted", size: "256K" },
			{ kind: "bus", size: "256K" },
			{ kind: "private", size: "256K" },
		] as const;
		const guest = await smallGuest({ platform: "snp", kernel: "linux-7.3", pools });
		const [, restricted, bus, own] = guest.pools as [never, ...(typeof guest.pools)[number][]];
		const kinds = (device: (typeof guest.devices)[number]) => [device.pool?.kind, device.privatePool?.kind];
		const alone = guest.addDevice({ pools: [restricted as never] });
		expect([...kinds(alone), alone.answers.forceBounce.why]).toEqual(["restricted", undefined, "restricted pool"]);
		expect(kinds(guest.addDevice({ pools: [bus as never] }))).toEqual(["bus", undefined]);
		const several = acceptedDevice(guest, { pools: [own as never, bus as never], dmaMask: 2n ** 23n - 1n });
		expect(kinds(several)).toEqual(["bus", "private"]);
		several.trust?.stop();
		expect(kinds(several)).toEqual(["bus", undefined]);
		const asked: unknown[] = [];
		const picky = acceptedDevice(guest, {
			pools: guest.pools,
			matcher: (need, from) => {
				asked.push(need);
				return from.find(({ kind }) => kind === (need.isPrivate && need.accepted ? "private" : "restricted")) ?? null;
			},
		});
		expect(kinds(picky)).toEqual(["restricted", "private"]);
		expect(asked).toContainEqual(expect.objectContaining({ isPrivate: true, accepted: true }));
		expect(asked).toContainEqual(expect.objectContaining({ isPrivate: false, accepted: false }));
		const none = guest.addDevice({ pools: [own as never], matcher: () => null });
		expect([...kinds(none), statusOf(none.tryMap(takePages(guest, 1), 8, ToDevice))]).toEqual([
			undefined,
			undefined,
			"NEEDS_SHARED",
		]);
	});
});
