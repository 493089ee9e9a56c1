import { describe, expect, it } from "vitest";
import type { GuestDevice, GuestDeviceOptions } from "../../src/coco/guest/device.ts";
import { Guest } from "../../src/coco/guest/guest.ts";
import { KernelCrash, type Policy, type PredicateInput } from "../../src/coco/rules/policy.ts";
import { PREDICATES, type PredicateValues } from "../../src/coco/rules/predicate.ts";
import { InputError } from "../../src/input-error.ts";
import { PageState } from "../../src/memory/ram.ts";
import { statusName } from "../../src/status.ts";
import { Direction } from "../../src/types.ts";
import { KERNEL_NAMES, OFFER, smallGuest, TDISP, trustNow } from "../helpers/trust-guest.ts";

const { ToDevice } = Direction;
const NAMES = PREDICATES.map(({ name }) => name);

function policy(fields: Partial<Policy> = {}): Policy {
	return { name: "mine", title: "a test's", source: "a test", kernel: "linux-6.12", acceptance: "any", ...fields };
}

async function guestOf(
	given: Policy,
	options: GuestDeviceOptions = {},
	more: Partial<Parameters<typeof smallGuest>[0]> = {},
): Promise<{ guest: Guest; device: GuestDevice }> {
	const guest = await smallGuest({ platform: "snp", policy: given, ...more });
	const restricted = guest.pools.filter((pool) => pool.restricted);
	const device = guest.addDevice({ ...options, ...(restricted.length > 0 ? { pools: restricted } : {}) });
	trustNow(device);
	return { guest, device };
}

/** What a page's mapping comes to. */
function mapPage({ guest, device }: { guest: Guest; device: GuestDevice }): string {
	const gpa = guest.pages.alloc(1);
	const before = device.dma.counters.directMaps;
	const dma = device.tryMap(gpa, 4096, ToDevice);
	if (dma < 0) return statusName(dma);
	return device.dma.counters.directMaps > before ? "direct" : "bounce";
}

describe("each predicate alone", () => {
	it("forceBounce decides streaming maps, and no coherent memory", async () => {
		const stage = await guestOf(policy({ predicates: { forceBounce: () => false } }));
		expect(mapPage(stage)).toBe("direct");
		const got = stage.device.allocCoherent(4096);
		expect(got.ok && stage.guest.engine.ram.pageState(got.gpa)).toBe(PageState.Shared);
		expect(mapPage(await guestOf(policy({ kernel: "linux-7.3", predicates: { forceBounce: () => true } })))).toBe(
			"bounce",
		);
	});

	it("active is asked only where a buffer is not forced to bounce and would have to", async () => {
		const predicates = { active: () => false };
		expect(mapPage(await guestOf(policy({ predicates })))).toBe("bounce");
		expect(mapPage(await guestOf(policy({ kernel: "linux-7.3", predicates })))).toBe("NEEDS_SHARED");
		const masked = { dmaMask: 0xffffn };
		expect(mapPage(await guestOf(policy({ predicates: { ...predicates, forceBounce: () => false } }), masked))).toBe(
			"BEYOND_MASK",
		);
	});

	it("forceDmaUnencrypted decides coherent memory, and streaming maps after the 7.3 merge", async () => {
		for (const kernel of KERNEL_NAMES) {
			const stage = await guestOf(policy({ kernel, predicates: { forceDmaUnencrypted: () => false } }));
			const got = stage.device.allocCoherent(4096);
			expect(got.ok && stage.guest.engine.ram.pageState(got.gpa), kernel).toBe(PageState.Private);
			expect(mapPage(stage), kernel).toBe(kernel === "linux-7.3" ? "direct" : "bounce");
		}
	});

	it("forAlloc keeps a restricted pool's slots for coherent memory, or not", async () => {
		const pools = [{ kind: "restricted", size: "1M" }] as const;
		for (const [forAlloc, source] of [
			[true, "slots"],
			[false, "pages"],
		] as const) {
			const stage = await guestOf(policy({ predicates: { forAlloc: () => forAlloc } }), {}, { pools });
			const got = stage.device.allocCoherent(4096);
			expect(got.ok && got.source).toBe(source);
			if (got.ok) expect(stage.device.freeCoherent(got)).toEqual({ ok: true });
			expect(mapPage(stage)).toBe("bounce");
			// dma_direct_use_pool asks it too
			const atomic = stage.device.allocCoherent(4096, { atomic: true });
			expect(atomic.ok && atomic.source).toBe(forAlloc ? "slots" : "atomic");
		}
	});

	it("usePool false decrypts where nothing may sleep", async () => {
		const stage = await guestOf(policy({ predicates: { usePool: () => false } }));
		const got = stage.device.allocCoherent(4096, { atomic: true });
		expect(got.ok && got.source).toBe("pages");
		expect(stage.guest.hazards.map(({ what }) => what)).toEqual(["SLEEPING_IN_ATOMIC"]);
		const calm = await guestOf(policy({ predicates: { usePool: () => false } }));
		expect(calm.device.allocCoherent(4096).ok).toBe(true);
		expect(calm.guest.hazards).toEqual([]);
	});

	it("is asked with what the policy knows, what the kernel answers, and what there is", async () => {
		const asked: PredicateInput[] = [];
		const predicates = {
			forceBounce: (input: PredicateInput) => {
				asked.push(input);
				return input.linux.forceBounce;
			},
		};
		const known = (values: Partial<PredicateValues>) => expect.objectContaining(values);
		const linux = known({
			forceBounce: true,
			active: true,
			forAlloc: false,
			usePool: true,
			forceDmaUnencrypted: true,
		});
		const common = {
			hasPool: true,
			restricted: false,
			forced: false,
			vmbus: true,
			externalFacing: false,
			reachesPrivate: true,
		};
		await guestOf(policy({ predicates }), { offer: OFFER });
		expect(asked.map((input) => Object.keys(input.linux))).toEqual([NAMES]);
		expect(asked.splice(0)).toEqual([{ ...common, accepted: true, linux }]);
		await guestOf(policy({ predicates, acceptance: "tdisp" }), { offer: OFFER, dmaMask: 0xffffffffn });
		expect(asked.splice(0)).toEqual([{ ...common, accepted: false, linux, reachesPrivate: false }]);
		await guestOf(
			policy({ predicates, kernel: "linux-7.3", pool: () => null }),
			{ offer: OFFER },
			{ swiotlb: "512,1,force" },
		);
		const no = { forceBounce: false, active: false, forAlloc: false, forceDmaUnencrypted: false };
		const none = known({ ...no, usePool: true });
		expect(asked.splice(0)).toEqual([{ ...common, accepted: true, hasPool: false, forced: true, linux: none }]);
	});
});

describe("a predicate that crashes", () => {
	const crash = () => {
		throw new KernelCrash("there", "because");
	};

	it("ends what asks it, and nothing else", async () => {
		const forced = await guestOf(policy({ predicates: { forceBounce: crash } }));
		expect(() => mapPage(forced)).toThrow(new KernelCrash("there", "because"));
		expect(forced.device.allocCoherent(4096).ok).toBe(true);

		const active = await guestOf(policy({ kernel: "linux-7.3", predicates: { active: crash } }), { tdisp: TDISP });
		expect(mapPage(active)).toBe("direct");
		const untrusted = await guestOf(policy({ kernel: "linux-7.3", predicates: { active: crash } }));
		expect(() => mapPage(untrusted)).toThrow(KernelCrash);

		for (const name of ["forAlloc", "usePool"] as const) {
			const stage = await guestOf(policy({ predicates: { [name]: crash } }));
			expect(mapPage(stage)).toBe("bounce");
			expect(() => stage.device.allocCoherent(4096), name).toThrow(KernelCrash);
		}

		const encoding = { forceDmaUnencrypted: crash };
		const before = await guestOf(policy({ predicates: encoding }));
		expect(mapPage(before)).toBe("bounce");
		expect(() => before.device.allocCoherent(4096)).toThrow(KernelCrash);
		const merged = await guestOf(policy({ kernel: "linux-7.3", predicates: encoding }));
		expect(() => mapPage(merged)).toThrow(KernelCrash);
	});
});

describe("a policy's functions that answer nonsense", () => {
	const hostile = (answer: unknown) => () => answer as boolean;

	it.each([
		[undefined, "undefined"],
		[1, "1"],
		["yes", '"yes"'],
		[Promise.resolve(true), "an object"],
		[Symbol("x"), "a symbol"],
	])("are told in a line that names policy and predicate: %s", async (answer, found) => {
		for (const name of NAMES) {
			const made = smallGuest({ platform: "snp", policy: policy({ predicates: { [name]: hostile(answer) } }) });
			const guest = await made;
			const use = () => guest.addDevice().allocCoherent(4096);
			expect(use, name).toThrow(InputError);
			expect(use, name).toThrow(`policy mine: predicates.${name}: expected true or false, answered ${found}`);
		}
	});

	it("are told when they throw", async () => {
		for (const [error, text] of [
			[new Error("one\ntwo"), "one"],
			["text", "text"],
			[null, "null"],
			[Object.create(null), "something that has no text"],
		] as const) {
			const thrower = () => {
				throw error;
			};
			const guest = await smallGuest({ platform: "snp", policy: policy({ predicates: { active: thrower } }) });
			expect(() => guest.addDevice()).toThrow(
				new InputError(`policy mine: predicates.active: expected true, false or a KernelCrash, threw ${text}`),
			);
			const other = await smallGuest({ platform: "snp", policy: policy({ pool: thrower }) });
			expect(() => other.addDevice()).toThrow(
				new InputError(`policy mine: pool: expected a pool or null, threw ${text}`),
			);
		}
	});

	it("are told when they choose a pool that is none of theirs", async () => {
		for (const pool of [undefined, {}, "default"]) {
			const guest = await smallGuest({ platform: "snp", policy: policy({ pool: () => pool as unknown as null }) });
			expect(() => guest.addDevice()).toThrow(
				"policy mine: pool: expected one of the pools that it was given, or null",
			);
		}
	});
});

describe("a guest with a policy", () => {
	it("has the policy's kernel, and refuses another", async () => {
		const made = await Guest.create({
			platform: "snp",
			ram: "8M",
			swiotlb: "512,1",
			policy: policy({ kernel: "linux-7.3" }),
		});
		expect(made.kernel.name).toBe("linux-7.3");
		const both = smallGuest({ platform: "snp", policy: policy(), kernel: "linux-7.3" });
		await expect(both).rejects.toThrow(
			new RangeError("kernel: policy mine changes the rules of linux-6.12, not of linux-7.3"),
		);
		expect((await smallGuest({ platform: "snp", policy: policy(), kernel: "linux-6.12" })).policy?.name).toBe("mine");
	});

	it("keeps what is true apart from what the policy believes", async () => {
		for (const [acceptance, believed] of [
			["none", [false, false]],
			["offer", [true, false]],
			["tdisp", [false, true]],
			["any", [true, true]],
			["driver", [false, false]],
		] as const) {
			const guest = await smallGuest({ platform: "snp", policy: policy({ acceptance }) });
			const devices = [guest.addDevice({ offer: OFFER }), guest.addDevice({ tdisp: TDISP })];
			for (const device of devices) trustNow(device);
			expect(devices.map(({ accepted, t }) => [accepted, t])).toEqual([
				[true, 1],
				[true, 1],
			]);
			expect(
				devices.map((device) => device.believed),
				acceptance,
			).toEqual(believed);
		}
	});

	it("gives slots back that a device held when its policy began to refuse bouncing", async () => {
		const given = policy({ acceptance: "driver", mechanism: { accepted: "refuse" } });
		const stage = await guestOf(given);
		const gpa = stage.guest.pages.alloc(1);
		const dma = stage.device.map(gpa, 4096, Direction.FromDevice);
		stage.device.setNoBounce(true);
		stage.device.write(dma, Uint8Array.of(42));
		stage.device.unmap(dma, 4096, Direction.FromDevice);
		expect(stage.guest.engine.ram.read(gpa, 1)[0]).toBe(42);
		expect(stage.guest.pools[0]?.pool.used).toBe(0);
		expect(mapPage(stage)).toBe("NO_POOL");
	});
});
