/** A guest under a policy, with the device of a scenario in it, ready for its driver's first mapping. */
import { IO_TLB_SIZE } from "../../assembly/layout/pool.ts";
import { parseBytes } from "../bytes.ts";
import type { GuestDevice, GuestDeviceOptions } from "../coco/guest/device.ts";
import { Guest, type GuestOptions } from "../coco/guest/guest.ts";
import type { PageConverter } from "../coco/platform/convert.ts";
import { PLATFORMS, type Platform, type PlatformName } from "../coco/platform/platform.ts";
import { KERNELS } from "../coco/rules/kernel.ts";
import type { Policy } from "../coco/rules/policy.ts";
import type { GuestPoolOptions } from "../coco/rules/pool.ts";
import { TrustError } from "../coco/trust/error.ts";
import { PageState } from "../memory/ram.ts";
import { FOUR_GIB } from "../memory/stretches.ts";
import type { Scenario, TdispReached } from "../policy/scenarios.ts";
import type { PolicySetup } from "../policy/setup.ts";
import { parseSwiotlbOption } from "../swiotlb/sizing.ts";
import { Version } from "../vmbus/wire/versions.ts";
import type { GuestArena } from "./arena.ts";
import { type Cause, needs, trustCause } from "./cause.ts";

const MIB = 2 ** 20;
const RESTRICTED: GuestPoolOptions = { kind: "restricted", name: "virtio", size: "1M" };
const EVIDENCE = { interfaceReport: Uint8Array.of(1), measurements: Uint8Array.of(1), digest: "01" };

/** What may differ from the scenario. */
export interface StageOptions
	extends Pick<
		GuestOptions,
		| "ram"
		| "build"
		| "auditEvents"
		| "spareBytes"
		| "reserved"
		| "cipher"
		| "seed"
		| "onConverter"
		| "cpus"
		| "atomicPools"
	> {
	/** Default: the scenario's. */
	readonly platform: PlatformName;
	/** Default true. */
	readonly encoded: boolean;
	/** Slots and areas of the default pool; null: there is none. Default "2048,1": 4 MiB. */
	readonly swiotlb: string | null;
	/** Where the guest lies, in place of another one that is done with. Default: a memory of its own. */
	readonly arena: GuestArena;
	/** Size of every other pool (bytes), where their own would be too small for a workload. Default: as the policy and the scenario say. */
	readonly poolBytes: number;
}

/** A guest with its device, or why there is none. */
export type Stage = {
	readonly setup: PolicySetup;
	readonly scenario: Scenario;
} & (
	| { readonly refused: null; readonly guest: Guest; readonly device: GuestDevice }
	/** An offer that is refused, a pool that the platform cannot have. */
	| { readonly refused: Cause; readonly guest: null; readonly device: null }
);

/** Low memory for the pools and as much again as parts need, and some that a 32-bit mask does not reach. */
function ramFor(pools: readonly GuestPoolOptions[], swiotlb: string | null): NonNullable<StageOptions["ram"]> {
	const { slabs = 0 } = parseSwiotlbOption(swiotlb ?? "");
	const low = pools.reduce((sum, { size }) => sum + parseBytes(size), 2 * MIB + slabs * IO_TLB_SIZE);
	return [
		{ gpa: 0, bytes: Math.ceil(low / MIB) * MIB },
		{ gpa: FOUR_GIB, bytes: MIB },
	];
}

/** How the policy's pools come out on a platform: none is private where nothing is. */
export function policyOn(platform: Platform, { policy, guest }: PolicySetup, size: { size?: number }): Policy {
	const pools = (policy.pools ?? [])
		.filter(({ kind }) => kind !== "private" || platform.hostRead !== "plain")
		.map((pool) => ({ ...pool, ...size, ...(guest.zeroOnFree ? { zeroOnFree: true } : {}) }));
	return { ...policy, pools };
}

/** Whether the guest's kernel decrypts its default pool with calls that may fail. */
function converts(platform: Platform, policy: Policy): boolean {
	const { decryptsDefaultPool } = KERNELS[policy.kernel].rules;
	return decryptsDefaultPool.is.includes(platform.protection) && platform.conversion.canFail;
}

/** Lets the conversion of the default pool fail. */
function failPool(converter: PageConverter): void {
	const [first] = converter.steps(PageState.Private, PageState.Shared);
	// the atomic pools are decrypted before it: one a zone
	const zones = converter.platform.architecture.hasDma32 ? 3 : 2;
	if (first !== undefined) converter.failAt(first.step, zones + 1);
}

function guestOptions(setup: PolicySetup, scenario: Scenario, options: Partial<StageOptions>): GuestOptions {
	const { platform: name = scenario.platform, swiotlb = "2048,1", poolBytes, ...rest } = options;
	const { encoded: _, arena: __, ...given } = rest;
	const size = poolBytes === undefined ? {} : { size: poolBytes };
	const platform = PLATFORMS[name];
	const policy = policyOn(platform, setup, size);
	const { force = false, zeroOnFree = false, keepPresent = false, undecrypted = false } = setup.guest;
	const unmaps = platform.conversion.steps.toShared.some(({ step }) => step === "unmap");
	const pools = scenario.restricted ? [{ ...RESTRICTED, ...size, zeroOnFree }] : [];
	return {
		ram: ramFor([...pools, ...(policy.pools ?? [])], swiotlb),
		...given,
		platform,
		policy,
		swiotlb: force && swiotlb !== null ? `${swiotlb},force` : swiotlb,
		zeroOnFree,
		keepPresent: keepPresent && unmaps,
		...(undecrypted && converts(platform, policy) ? { onConverter: failPool } : {}),
		pools,
	};
}

/** Why a scenario's device does not come about under a setup, or null. */
function refusalOf({ connection, device, loadsDriver }: PolicySetup, { trust }: Scenario): Cause | null {
	if (!loadsDriver) return { what: "no-driver" };
	if (trust.by !== "offer") return null;
	if (device.accepted) return needs("tdisp-interface");
	return connection === "no-fallback" ? { what: "no-fallback" } : null;
}

function deviceOptions(setup: PolicySetup, scenario: Scenario, guest: Guest, encoded: boolean): GuestDeviceOptions {
	const { dmaMask, coherent, accepted = false, externalFacing } = setup.device;
	const { trust, restricted } = scenario;
	const confidential = setup.connection === "confidential";
	const nothing = { coRingBuffer: false, coExternalMemory: false };
	return {
		...scenario.device,
		name: scenario.name,
		encoded,
		...(dmaMask === undefined ? {} : { dmaMask }),
		...(coherent === undefined ? {} : { coherent }),
		...(externalFacing === undefined ? {} : { externalFacing }),
		...(restricted ? { pools: guest.pools.filter((pool) => pool.restricted) } : {}),
		...(trust.by === "tdisp" || accepted
			? { tdisp: { evidence: () => EVIDENCE, policy: () => ({ accept: true as const }) } }
			: {}),
		...(trust.by === "offer"
			? {
					offer: {
						flags: confidential ? trust.flags : nothing,
						connection: { confidential, version: Version.V6_0 },
						needsEvidence: setup.evidencePending,
					},
				}
			: {}),
	};
}

/** Whether the device's driver keeps it from bouncing, where the policy takes the driver's word. */
export function setsFlag({ policy, connection }: PolicySetup, { driver, trust }: Scenario): boolean {
	if (policy.acceptance !== "driver") return false;
	if (policy.flagSetBy !== "storvsc") return true;
	return driver === "storvsc" && trust.by === "offer" && trust.flags.coExternalMemory && connection === "confidential";
}

/** Brings a device as far as it comes, and binds its driver on the way. @throws TrustError */
function bindDriver(device: GuestDevice, reached: TdispReached): void {
	const { trust } = device;
	if (trust === null) {
		device.bindDriver();
		return;
	}
	trust.lock();
	trust.collectEvidence();
	if (reached !== "late") trust.accept();
	if (reached === "run" || reached === "error") trust.start();
	device.bindDriver();
	if (reached === "error") trust.fault("IDE_FAILURE");
	if (reached !== "late") return;
	try {
		trust.accept();
		trust.start();
	} catch (error) {
		// the policy does not let it: the device stays as it was when its driver bound
		if (!(error instanceof TrustError)) throw error;
	}
}

/**
 * Makes a guest under a policy, and in it the scenario's device: trusted as it can be, its driver bound, the driver's flag
 * set where the policy takes its word.
 * @returns the stage; what a platform or an offer refuses is no exception
 * @throws RangeError that names an option; InputError for a policy whose functions answer nonsense; DmaError as Engine.create
 */
export async function makeStage(
	setup: PolicySetup,
	scenario: Scenario,
	options: Partial<StageOptions> = {},
): Promise<Stage> {
	const common = { setup, scenario };
	const refuse = (refused: Cause): Stage => ({ ...common, refused, guest: null, device: null });
	const refusal = refusalOf(setup, scenario);
	if (refusal !== null) return refuse(refusal);
	try {
		const planned = guestOptions(setup, scenario, options);
		const guest = await Guest.create(options.arena?.place(planned) ?? planned);
		const device = guest.addDevice(deviceOptions(setup, scenario, guest, options.encoded ?? true));
		bindDriver(device, scenario.trust.by === "tdisp" ? scenario.trust.reached : "run");
		if (setsFlag(setup, scenario)) device.setNoBounce(true);
		return { ...common, refused: null, guest, device };
	} catch (error) {
		if (error instanceof TrustError) return refuse(trustCause(error));
		throw error;
	}
}
