/** A policy's answers about one device, and the decision record that they come to. */
import type { DeviceOptions } from "../../dma/options.ts";
import { InputError, shown, thrown } from "../../input-error.ts";
import { addressEncoding, type Platform } from "../platform/platform.ts";
import { type Kernel, type Predicates, predicatesOf, type RuledDevice } from "./kernel.ts";
import { KernelCrash, type Mechanism, type Policy, type PredicateInput, type PredicateValues } from "./policy.ts";

/** What is asked about a device. */
export interface PolicyQuestion {
	readonly policy: Policy;
	readonly kernel: Kernel;
	readonly platform: Platform;
	/** accepted: as far as the policy knows. */
	readonly device: RuledDevice;
	/** Highest address that the device can emit, inclusive. */
	readonly reach: bigint;
}

/** What a policy makes of a device's streaming maps. */
export interface Decision {
	readonly record: DeviceOptions;
	/** The record for MMIO, if that is another: its rules ask for the state whether or not the pools' is asked for. */
	readonly mmio: DeviceOptions | null;
	readonly predicates: Predicates;
	/** Whether the record asks for the memory's and the pool's state. */
	readonly checksState: boolean;
	/** Whether what would bounce does: the record has the device's pools. */
	readonly bounces: boolean;
	/** Whether what would bounce is shared in place: the record refuses it, and its pages are converted then. */
	readonly shares: boolean;
	/** What a mapping ends in that is refused by the record, or null. */
	readonly crash: KernelCrash | null;
}

/** What a predicate is asked with. */
function inputOf({ kernel, platform, device, reach }: PolicyQuestion): PredicateInput {
	const { accepted, pool, forced } = device;
	const { forceBounce, forceDmaUnencrypted } = predicatesOf(kernel, platform, device);
	const hasPool = pool !== null;
	const restricted = pool?.restricted === true;
	const privateBits = device.encoded ? addressEncoding(platform).privateBits : 0n;
	const linux = {
		forceBounce: hasPool && forceBounce,
		active: hasPool,
		forAlloc: restricted,
		usePool: !restricted,
		forceDmaUnencrypted,
	};
	return { accepted, linux, hasPool, restricted, forced, reachesPrivate: privateBits <= reach };
}

/** @throws KernelCrash; InputError for an answer that is none, or for whatever else is thrown */
function ask(policy: Policy, name: keyof PredicateValues, input: PredicateInput): boolean {
	const predicate = policy.predicates?.[name];
	if (predicate === undefined) return input.linux[name];
	let answer: unknown;
	try {
		answer = predicate(input);
	} catch (error) {
		if (error instanceof KernelCrash) throw error;
		const expected = "expected true, false or a KernelCrash";
		throw new InputError(`policy ${policy.name}: predicates.${name}: ${expected}, threw ${thrown(error)}`);
	}
	if (typeof answer !== "boolean")
		throw new InputError(
			`policy ${policy.name}: predicates.${name}: expected true or false, answered ${shown(answer)}`,
		);
	return answer;
}

/**
 * The predicates that coherent allocation asks. dma_direct_use_pool asks is_swiotlb_for_alloc itself, so what the kernel
 * answers there follows from the policy's answer.
 * @throws KernelCrash, InputError
 */
export function askForAllocation(
	question: PolicyQuestion,
): Pick<PredicateValues, "forAlloc" | "usePool" | "forceDmaUnencrypted"> {
	const { policy } = question;
	const input = inputOf(question);
	const forAlloc = ask(policy, "forAlloc", input);
	const usePool = ask(policy, "usePool", { ...input, linux: { ...input.linux, usePool: !forAlloc } });
	return { forAlloc, usePool, forceDmaUnencrypted: ask(policy, "forceDmaUnencrypted", input) };
}

/** Whether pages on freed memory need shared memory, as free asks it. @throws KernelCrash, InputError */
export function askForFree(question: PolicyQuestion): boolean {
	return ask(question.policy, "forceDmaUnencrypted", inputOf(question));
}

/** What is to happen to a buffer of a device that would bounce. */
function mechanismOf({ mechanism = {} }: Policy, accepted: boolean): Mechanism {
	return (accepted ? mechanism.accepted : mechanism.others) ?? "bounce";
}

/**
 * Compiles what a policy decides about a device's streaming maps.
 * @throws InputError for a predicate that answers no boolean
 */
export function compile(question: PolicyQuestion): Decision {
	const { policy, kernel, platform, device } = question;
	const input = inputOf(question);
	let crash: KernelCrash | null = null;
	const answer = (name: keyof PredicateValues): boolean | null => {
		try {
			return ask(policy, name, input);
		} catch (error) {
			if (!(error instanceof KernelCrash)) throw error;
			crash ??= error;
			return null;
		}
	};
	const forceBounce = answer("forceBounce");
	const forceDmaUnencrypted = kernel.checksState
		? answer("forceDmaUnencrypted")
		: forceDmaUnencryptedOf(question, input);
	const active = answer("active");
	const mechanism = mechanismOf(policy, device.accepted);
	const wouldBounce = forceBounce === true || active === true;
	const shares = mechanism === "share-in-place" && wouldBounce && crash === null;
	const bounces = mechanism === "bounce" && wouldBounce && crash === null;
	const checksState = kernel.checksState && policy.checksPoolState !== false;
	// a record that crashes where it is asked, or that does not ask for states, bounces what it may not map
	const forced = (forceBounce ?? true) || (kernel.checksState && !checksState && forceDmaUnencrypted !== false);
	const needsShared = forceDmaUnencrypted ?? true;
	const common = {
		...(device.encoded ? addressEncoding(platform) : {}),
		encodesAsLinux: true,
		pool: bounces ? (device.pool?.pool ?? null) : null,
		privatePool: bounces ? (device.privatePool?.pool ?? null) : null,
	};
	// such a record takes a private buffer for what would bounce, and one that is said to be shared as it is
	const sharing = {
		forceBounce: false,
		needsShared: forced || (kernel.checksState && needsShared),
		checksState: true,
	};
	const rules = shares ? sharing : { forceBounce: forced, needsShared, checksState };
	const merged = { forceBounce: forceBounce ?? true, needsShared, checksState: true };
	return {
		record: { ...common, ...rules },
		mmio: kernel.checksState && !rules.checksState ? { ...common, ...merged } : null,
		predicates: {
			forceDmaUnencrypted: needsShared,
			forceBounce: forceBounce ?? true,
			forceBounceWhy: whyForced(question, forceBounce ?? true),
		},
		checksState: rules.checksState,
		bounces,
		shares,
		crash,
	};
}

/** A kernel that does not check states asks force_dma_unencrypted for coherent memory only: what crashes there does so then. */
function forceDmaUnencryptedOf({ policy }: PolicyQuestion, input: PredicateInput): boolean {
	try {
		return ask(policy, "forceDmaUnencrypted", input);
	} catch (error) {
		if (error instanceof KernelCrash) return input.linux.forceDmaUnencrypted;
		throw error;
	}
}

function whyForced({ policy, kernel, platform, device }: PolicyQuestion, forced: boolean): string {
	if (!forced) return "";
	const { forceBounceWhy } = predicatesOf(kernel, platform, device);
	return policy.predicates?.forceBounce === undefined ? forceBounceWhy : `policy ${policy.name}`;
}
