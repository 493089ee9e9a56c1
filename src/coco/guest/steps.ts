/** A kernel's decision about one mapping, predicate by predicate. */
import type { DeviceOptions } from "../../dma/options.ts";
import { RangeState } from "../../memory/ram.ts";
import { Attr, Direction, type Gpa } from "../../types.ts";
import type { GuestPool } from "../memory/pools.ts";
import { encodeGpa } from "../platform/platform.ts";
import { encodingOf, limitOf } from "../rules/device.ts";
import { type Answer, PREDICATES, type Predicate } from "../rules/predicate.ts";
import type { GuestDevice } from "./device.ts";
import type { Guest } from "./guest.ts";

/** A mapping that somebody asks for. */
export interface MapRequest {
	readonly gpa: Gpa;
	/** 1 .. 2^31 - 1 */
	readonly bytes: number;
	readonly dir: Direction;
	/** Default 0. */
	readonly cpu?: number;
	/** Attr.*. Default 0. */
	readonly attrs?: number;
}

/** One predicate: what is asked, the answer, and from what it follows. */
export interface PredicateStep {
	readonly predicate: string;
	readonly value: string;
	readonly why: string;
}

/** What the predicates come to. */
interface Prediction {
	readonly steps: readonly PredicateStep[];
	readonly decision: "direct" | "bounce" | "refused";
	/** Of the steps, those that made the decision what it is. */
	readonly deciding: readonly PredicateStep[];
}

/** Why an accepted or not accepted device is what it is. */
function acceptedWhy(device: GuestDevice, knows: boolean): string {
	const { trust, offer } = device;
	const from =
		trust !== null
			? `TDISP interface ${device.accepted ? "accepted, in RUN" : "not accepted in RUN"}`
			: offer !== null
				? `VMBus offer: external memory ${offer.externalMemory}`
				: "no TDISP interface, no VMBus offer";
	return knows || !device.accepted ? from : `${from}; this kernel does not ask`;
}

/** The device's hardware as its record has it. */
function hardwareOf(device: GuestDevice): Pick<DeviceOptions, "dmaMask" | "busLimit" | "coherent"> {
	return { ...device.options, ...device.mapRules };
}

/** A predicate and its answer. */
interface Asked {
	readonly step: PredicateStep;
	readonly holds: boolean;
}

function askedOf(predicate: string, holds: boolean, why: string): Asked {
	return { step: { predicate, value: String(holds), why }, holds };
}

/** Linux 6.12 include/linux/dma-direct.h, dma_capable: the address part. */
export function askReach(device: GuestDevice, dma: bigint, bytes: number, predicate: string): Asked {
	const hardware = hardwareOf(device);
	const limit = limitOf(hardware);
	const end = dma + BigInt(bytes) - 1n;
	const holds = end <= limit;
	const whose = limit === hardware.busLimit && limit !== hardware.dmaMask ? "bus limit" : "mask";
	const why = `end 0x${end.toString(16)} ${holds ? "<=" : ">"} ${whose} 0x${limit.toString(16)}`;
	return askedOf(predicate, holds, why);
}

/** Linux 6.12 include/linux/dma-map-ops.h, dma_kmalloc_needs_bounce, with 64-byte cache lines. */
function askKmalloc(device: GuestDevice, { bytes, dir }: MapRequest): Asked {
	const predicate = "dma_kmalloc_needs_bounce(dev, size, dir)";
	if (hardwareOf(device).coherent !== false) return askedOf(predicate, false, "coherent device");
	if (dir === Direction.ToDevice) return askedOf(predicate, false, "TO_DEVICE");
	const holds = bytes <= 32 || (bytes > 64 && bytes <= 96);
	const why = `${bytes} bytes: the kmalloc bucket is ${holds ? "no" : "a"} multiple of the 64-byte cache line`;
	return askedOf(predicate, holds, why);
}

/**
 * The predicates of the guest's kernel in the order in which it asks them, up to the one that decides.
 * @throws DmaError for a range that is not usable RAM
 */
export function decisionSteps(guest: Guest, device: GuestDevice, request: MapRequest): Prediction {
	const { gpa, bytes, attrs = 0 } = request;
	const { kernel, platform } = guest;
	const { checksState } = device;
	const { forceBounce, needsShared, mayBounce } = device.mapRules;
	const steps: PredicateStep[] = [];
	const say = (predicate: string, value: boolean | string, why: string): PredicateStep => {
		const step = { predicate, value: String(value), why };
		steps.push(step);
		return step;
	};
	/** The predicates of the list that are asked at one point. */
	const answered = (when: "first" | "bounce"): PredicateStep[] =>
		(PREDICATES as readonly Predicate[])
			.filter(({ map }) => map?.when === when)
			.map(({ name, call }) => {
				const { value, why } = (device.answers as Readonly<Record<string, Answer>>)[name] as Answer;
				return say(call, value, why);
			});
	/** No direct mapping, for what was asked: refused, or what the device's mechanism does. */
	const otherwise = (asked: PredicateStep[], capable: readonly PredicateStep[], hasPool: boolean): Prediction => {
		if (requireCoherent) asked.push(say("attrs & REQUIRE_COHERENT", true, "a mapping that must not bounce"));
		if (requireCoherent || !hasPool) return { steps, decision: "refused", deciding: asked };
		const { said, decision } = instead(guest, device, request);
		steps.push(...said.map(({ step }) => step));
		const reached = said.filter(({ isCapable }) => isCapable).map(({ step }) => step);
		const deciding = decision === "direct" ? [...capable, ...reached] : [...asked, ...said.map(({ step }) => step)];
		return { steps, decision, deciding };
	};
	const ccShared = checksState && (attrs & Attr.CcShared) !== 0;
	const requireCoherent = checksState && (attrs & Attr.RequireCoherent) !== 0;
	if (requireCoherent && hardwareOf(device).coherent === false) {
		const coherent = say("dev_is_dma_coherent(dev)", false, "REQUIRE_COHERENT of a device that is not coherent");
		return { steps, decision: "refused", deciding: [coherent] };
	}
	const knows = guest.policy === null ? kernel.rules.knowsAcceptance.is : device.believed;
	say("device_cc_accepted(dev)", device.accepted, acceptedWhy(device, knows));
	const first = answered("first");
	if (forceBounce) return otherwise(first, [], true);
	if (checksState) say("attrs & CC_SHARED", ccShared, ccShared ? "the caller decrypted the memory" : "not set");
	const { ruled } = device;
	const dma = encodeGpa(encodingOf(platform, ruled), gpa, ccShared);
	const bit = platform.dmaBit?.bit ?? null;
	const which = bit === null ? "both forms are equal" : `${ccShared ? "shared" : "private"} form, bit ${bit}`;
	const form = ruled.encoded ? which : "plain: the host's table tells private from shared";
	say(ccShared ? "phys_to_dma_unencrypted(dev, phys)" : "phys_to_dma(dev, phys)", `0x${dma.toString(16)}`, form);
	const reach = askReach(device, dma, bytes, "dma_capable(dev, addr, size): reach");
	steps.push(reach.step);
	const capable = [reach.step];
	const failed = reach.holds ? [] : [reach.step];
	if (kernel.rules.capableAsksState.is) {
		const permitted = ccShared || !needsShared;
		const state = say(
			"dma_capable(dev, addr, size): state",
			permitted,
			permitted
				? "CC_SHARED or not force_dma_unencrypted"
				: "private memory, and the device reaches shared memory only",
		);
		capable.push(state);
		if (!permitted) failed.push(state);
	}
	const kmalloc = askKmalloc(device, request);
	steps.push(kmalloc.step);
	if (kmalloc.holds) failed.push(kmalloc.step);
	if (failed.length === 0) return { steps, decision: "direct", deciding: capable };
	const asked = answered("bounce");
	return otherwise([...failed, ...asked], capable, mayBounce && poolFor(guest, device, request) !== null);
}

/** What a policy has a device do where the kernel would bounce, and what it asks for that. */
function instead(
	guest: Guest,
	device: GuestDevice,
	request: MapRequest,
): {
	readonly said: readonly { readonly step: PredicateStep; readonly isCapable: boolean }[];
	readonly decision: Prediction["decision"];
} {
	const { mechanism } = device;
	if (mechanism === "bounce") return { said: [], decision: "bounce" };
	const chosen = {
		step: { predicate: "policy: instead of bouncing", value: mechanism, why: `policy ${guest.policy?.name}` },
		isCapable: false,
	};
	if (mechanism === "refuse") return { said: [chosen], decision: "refused" };
	const shared = encodeGpa(encodingOf(guest.platform, device.ruled), request.gpa, true);
	const reach = askReach(device, shared, request.bytes, "dma_capable(dev, shared address, size)");
	const kmalloc = askKmalloc(device, request);
	const asked = [
		{ step: reach.step, isCapable: true },
		...(kmalloc.holds ? [{ step: kmalloc.step, isCapable: false }] : []),
	];
	return { said: [chosen, ...asked], decision: reach.holds && !kmalloc.holds ? "direct" : "refused" };
}

/** The pool that would bounce the buffer: a device may have one of its own for private pages. */
export function poolFor(guest: Guest, device: GuestDevice, { gpa, bytes, attrs = 0 }: MapRequest): GuestPool | null {
	const isPrivate = device.checksState
		? (attrs & Attr.CcShared) === 0
		: guest.engine.ram.rangeState(gpa, bytes) === RangeState.Private;
	return (isPrivate ? device.privatePool : null) ?? device.pool;
}

/** The state check that swiotlb makes before it looks for slots; null: the device's record makes none. */
export function poolStateStep(guest: Guest, device: GuestDevice, request: MapRequest): PredicateStep | null {
	if (!device.checksState) return null;
	const pool = poolFor(guest, device, request);
	if (pool === null) return null;
	const { needsShared } = device.mapRules;
	const why = `pool "${pool.name}": cc_shared ${pool.ccShared}, force_dma_unencrypted ${needsShared}`;
	return askedOf("pool.cc_shared == force_dma_unencrypted(dev)", pool.ccShared === needsShared, why).step;
}
