/** A policy's answers about one device, and the decision record that they come to. */
import type { DeviceOptions } from "../../dma/options.ts";
import { InputError, shown, thrown } from "../../input-error.ts";
import { attributesOf } from "./attributes.ts";
import { encodingOf, type Situation } from "./device.ts";
import { KernelCrash, type Mechanism, type Policy, type PredicateInput } from "./policy.ts";
import {
	type Answer,
	type CoherentRules,
	type MapRules,
	PREDICATES,
	type Predicate,
	type PredicateName,
	type PredicateValues,
} from "./predicate.ts";

/** What is asked about a device. policy: null where the kernel's own rules hold */
export interface Question extends Situation {
	readonly policy: Policy | null;
}

type Listed = (typeof PREDICATES)[number];
/** The predicates that make a device's decision record. */
type MapPredicateName = Extract<Listed, { readonly map: object }>["name"];

/** What they answered. */
export type Answers = Readonly<Record<MapPredicateName, Answer>>;

/** What is decided about a device's streaming maps. */
export interface Decision {
	readonly record: DeviceOptions;
	/** The record for MMIO, if that is another: its rules ask for the state whether or not the pools' is asked for. */
	readonly mmio: DeviceOptions | null;
	/** What was answered, and what the answers come to before it is a record. */
	readonly answers: Answers;
	readonly rules: MapRules;
	/** What happens to a buffer that the record does not map as it is. refuse, too, where nothing could bounce it. */
	readonly mechanism: Mechanism;
	/** What a mapping ends in that is refused by the record, or null. */
	readonly crash: KernelCrash | null;
}

/** What the kernel itself answers to everything. */
function kernelAnswers(question: Question): PredicateValues {
	const values: Record<string, boolean> = {};
	for (const { name, linux } of PREDICATES) values[name] = linux(question, values).value;
	return values as PredicateValues;
}

/** @param given what was answered before @throws KernelCrash; InputError for an answer that is none, or for whatever else is thrown */
function ask(question: Question, { name, linux }: Listed, given: Readonly<Record<string, boolean>>): Answer {
	const { policy, platform, device } = question;
	const own = linux(question, given);
	const predicate = policy?.predicates?.[name];
	if (policy === null || predicate === undefined) return own;
	const input: PredicateInput = {
		accepted: device.accepted,
		linux: { ...kernelAnswers(question), [name]: own.value },
		hasPool: device.hasAllocator,
		restricted: device.pool?.restricted === true,
		forced: device.forced,
		vmbus: device.vmbus,
		externalFacing: device.externalFacing,
		reachesPrivate: encodingOf(platform, device).privateBits <= device.reach,
	};
	const at = `policy ${policy.name}: predicates.${name}`;
	let value: unknown;
	try {
		value = predicate(input);
	} catch (error) {
		if (error instanceof KernelCrash) throw error;
		throw new InputError(`${at}: expected true, false or a KernelCrash, threw ${thrown(error)}`);
	}
	if (typeof value !== "boolean") throw new InputError(`${at}: expected true or false, answered ${shown(value)}`);
	return { value, why: `policy ${policy.name}` };
}

/** What one predicate of the list answers, whoever asks it. */
export interface PredicateReply {
	/** Its name in a policy. */
	readonly name: PredicateName;
	/** The kernel's call, and who makes it. */
	readonly call: string;
	readonly asked: string;
	/** Null: the kernel ends in it. */
	readonly value: boolean | null;
	readonly why: string;
}

/** Every predicate's answer about a device, in the order of the list. @throws InputError for an answer that is none */
export function everyAnswer(question: Question): PredicateReply[] {
	const given: Record<string, boolean> = {};
	return PREDICATES.map((predicate) => {
		const { name, call, asked } = predicate;
		try {
			const { value, why } = ask(question, predicate, given);
			given[name] = value;
			return { name, call, asked, value, why };
		} catch (error) {
			if (!(error instanceof KernelCrash)) throw error;
			return { name, call, asked, value: null, why: `crash in ${error.message}` };
		}
	});
}

/**
 * What coherent memory's predicates come to.
 * @throws KernelCrash, InputError
 */
export function coherentRules(question: Question, asker: "alloc" | "free"): CoherentRules {
	const given: Record<string, boolean> = {};
	let rules: CoherentRules = { needsShared: false, fromPool: false, fromAtomicPools: false };
	for (const predicate of PREDICATES as readonly (Listed & Predicate)[]) {
		const { name, coherent } = predicate;
		if (coherent === undefined || !coherent.asks.includes(asker)) continue;
		const { value } = ask(question, predicate, given);
		given[name] = value;
		rules = { ...rules, ...coherent.rules(value) };
	}
	return rules;
}

/**
 * Compiles what is decided about a device's streaming maps.
 * @throws InputError for a predicate that answers no boolean
 */
export function compile(question: Question): Decision {
	const { policy, kernel, platform, device } = question;
	const given: Record<string, boolean> = {};
	const answers: Partial<Record<PredicateName, Answer>> = {};
	let rules: MapRules = { forceBounce: false, needsShared: false, mayBounce: false };
	let crash: KernelCrash | null = null;
	for (const predicate of PREDICATES as readonly (Listed & Predicate)[]) {
		const { name, map, linux } = predicate;
		if (map === undefined) continue;
		let answer: Answer;
		try {
			answer = ask(question, predicate, given);
		} catch (error) {
			if (!(error instanceof KernelCrash)) throw error;
			if (map.asks(kernel)) {
				crash ??= error;
				// what the record then refuses to bounce is where the kernel ends
				answer = { value: true, why: `crash in ${error.message}` };
			} else answer = linux(question, given);
		}
		answers[name] = answer;
		given[name] = answer.value;
		rules = { ...rules, ...map.rules(answer.value, rules) };
	}
	const { mayBounce, ...fields } = rules;
	const asked = policy?.mechanism?.[device.accepted ? "accepted" : "others"] ?? "bounce";
	const mechanism = crash === null && (rules.forceBounce || mayBounce) ? asked : "refuse";
	const { host } = attributesOf(kernel, platform);
	const { bounceAsksPoolState, capableAsksState, encodesMmio, limitsSharedMaps } = kernel.rules;
	const common = {
		...fields,
		...encodingOf(platform, device),
		encodesAsLinux: true,
		// on an encrypted host what swiotlb gives has to be within every device's reach
		...(host ? { needsSharedPool: true, mmioShared: encodesMmio.is } : {}),
		checksPool: bounceAsksPoolState.is,
		encodesMmio: encodesMmio.is,
		limitsSharedMaps: limitsSharedMaps.is,
		pool: mechanism === "bounce" ? (device.pool?.pool ?? null) : null,
		privatePool: mechanism === "bounce" ? (device.privatePool?.pool ?? null) : null,
	};
	const knowsStates = capableAsksState.is;
	const checksState = knowsStates && policy?.checksPoolState !== false;
	// a record that does not ask for states bounces what the kernel would not map as it is
	const forceBounce = rules.forceBounce || (knowsStates && !checksState && rules.needsShared);
	const record =
		mechanism === "share-in-place"
			? // takes a private buffer for what would bounce, and one that is said to be shared as it is
				{
					...common,
					forceBounce: false,
					needsShared: forceBounce || (knowsStates && rules.needsShared),
					checksState: true,
					encodesMmio: true,
				}
			: { ...common, forceBounce, checksState, checksPool: common.checksPool && checksState };
	// whether a pool's state is asked for changes nothing for MMIO
	const mmio = encodesMmio.is && !record.checksState ? { ...common, checksState: true } : null;
	return { record, mmio, answers: answers as Answers, rules, mechanism, crash };
}
