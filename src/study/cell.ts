/** One policy on one scenario, opened into parts: everything in it was run. */
import { decisionSteps, type PredicateStep } from "../coco/guest/steps.ts";
import { FOUR_GIB } from "../memory/stretches.ts";
import type { Place, Scenario } from "../policy/scenarios.ts";
import type { PolicySetup } from "../policy/setup.ts";
import { Direction, type DirectionName, directionName } from "../types.ts";
import type { GuestArena } from "./arena.ts";
import type { Cause } from "./cause.ts";
import { NOISE } from "./noise.ts";
import { type PartGroup, type PartRun, type PartSpec, type PartStage, runPart } from "./part.ts";
import { makeStage, type Stage, setsFlag } from "./stage.ts";
import { NO_BYTES, type Verdict, type VerdictKind, verdictOf, worstKind } from "./verdict.ts";

/** A part of a cell. */
export interface CellPart extends PartRun {
	readonly group: PartGroup;
	readonly dir: DirectionName;
	/** Size of the buffer. */
	readonly bufferBytes: number;
	/** What decided: the last predicates that the kernel asked, with their answers. */
	readonly because: readonly PredicateStep[];
	/** Whether the cell says it in its line: the first part does, and each that comes to something of another kind. */
	readonly told: boolean;
}

export interface Cell {
	readonly policy: string;
	readonly scenario: string;
	readonly platform: string;
	/** Whether the device's data is confidential: what its offer or its accepted state says, whatever the policy believes. */
	readonly confidential: boolean;
	/** The worst that the parts come to which are told. */
	readonly kind: VerdictKind;
	/** Bytes of a confidential device that the host could read, and of neighbours, of all parts on its platform. */
	readonly breachedBytes: number;
	/** Bytes of a device that is not confidential. */
	readonly exposedBytes: number;
	readonly parts: readonly CellPart[];
	/** What the kernel logged at boot by the policy's doing, on its own platform. */
	readonly messages: readonly string[];
	/** A bounced, shared or direct 4 KiB TO_DEVICE: map and unmap on the release build, median ns; null: refused or not measured. */
	readonly nsPer4KiB: number | null;
	/** Page conversions that those two calls make. */
	readonly conversionsPer4KiB: number;
}

const { ToDevice, FromDevice, Bidirectional } = Direction;
const streaming = (name: string, dir: Direction): PartSpec => ({ name, group: "streaming", bytes: 4096, dir });

const FIRST = streaming("4 KiB TO_DEVICE", ToDevice);
/** The parts of every cell. */
const PARTS: readonly PartSpec[] = [
	FIRST,
	streaming("4 KiB FROM_DEVICE", FromDevice),
	streaming("4 KiB BIDIRECTIONAL", Bidirectional),
	{ name: "4 KiB FROM_DEVICE, synced", group: "synced", bytes: 4096, dir: FromDevice },
	{ name: "32 B FROM_DEVICE", group: "small", bytes: 32, dir: FromDevice },
	{ name: "96 B TO_DEVICE", group: "small", bytes: 96, dir: ToDevice },
	{ name: "4 KiB TO_DEVICE above 4 GiB", group: "above 4 GiB", bytes: 4096, dir: ToDevice },
	{ name: "512 KiB TO_DEVICE", group: "large", bytes: 512 * 1024, dir: ToDevice },
	{ name: "4 KiB TO_DEVICE, REQUIRE_COHERENT", group: "require coherent", bytes: 4096, dir: ToDevice },
	{ name: "coherent 4 KiB", group: "coherent", bytes: 4096, dir: Bidirectional },
	{ name: "coherent 4 KiB, may not sleep", group: "atomic", bytes: 4096, dir: Bidirectional },
	{ name: "a peer's page, by map_page", group: "peer page", bytes: 4096, dir: Bidirectional },
	{ name: "a peer's MMIO", group: "mmio", bytes: 4096, dir: Bidirectional },
	{ name: "trust changes under a mapping", group: "transition", bytes: 4096, dir: ToDevice },
];
/** What is run on the scenario's other platforms: enough to see how addresses look there. */
const ELSEWHERE = PARTS.filter(
	({ dir, group }) => (group === "streaming" && dir === ToDevice) || group === "above 4 GiB" || group === "coherent",
);

function partStage(stage: Stage & { refused: null }): PartStage {
	const { guest, device, setup, scenario } = stage;
	return {
		guest,
		device,
		preShared: (setup.policy.preSharedPercent ?? 0) > 0,
		mmioShared: setup.mmioShared,
		setsFlag: setsFlag(setup, scenario),
		flipsFlag: setup.flipsFlag && setsFlag(setup, scenario),
		secrets: setup.handsSecrets,
		evidencePending: setup.evidencePending && scenario.trust.by === "offer",
		knowsRequireCoherent: guest.kernel.rules.countsAttributes.is,
		refusesToBounce: refusesToBounce(stage),
	};
}

/** Whether what would bounce is an error by the policy's word, and not because nothing could bounce it. */
function refusesToBounce({ device, setup }: Stage & { refused: null }): boolean {
	const { forceBounce, mayBounce } = device.mapRules;
	const asked = setup.policy.mechanism?.[device.believed ? "accepted" : "others"];
	return asked === "refuse" && device.crash === null && (forceBounce || mayBounce);
}

function whyOf(stage: Stage & { refused: null }, { group, bytes, dir }: PartSpec): readonly PredicateStep[] {
	const { guest, device } = stage;
	if (group === "coherent" || group === "atomic") {
		const { needsShared } = device.mapRules;
		const why = needsShared ? "its pages are decrypted" : "its pages stay as they are";
		return [{ predicate: "force_dma_unencrypted(dev)", value: String(needsShared), why }];
	}
	if (group === "mmio" || group === "transition") return [];
	const gpa = guest.pages.alloc(1, group === "above 4 GiB" ? {} : { belowGpa: FOUR_GIB });
	if (gpa < 0) return [];
	try {
		return decisionSteps(guest, device, { gpa, bytes, dir }).deciding;
	} finally {
		guest.pages.free(gpa, 1);
	}
}

/** In place of the first part, where the device does not come about. */
function notSetUp({ platform, encoded }: Place, cause: Cause): PartRun {
	const facts = { ...NO_BYTES, confidential: false, cause, hazards: [] };
	return { how: "-", conversions: 0, verdict: verdictOf({ part: FIRST.name, platform, encoded, ...facts }) };
}

/** What a run of cells shares. */
export interface CellOptions {
	/** Measures the release build. Default: nothing is measured. */
	readonly cost?: (setup: PolicySetup, scenario: Scenario) => Promise<Pick<Cell, "nsPer4KiB" | "conversionsPer4KiB">>;
	/** The scenario's platform; default: its own, and parts on its others. */
	readonly place?: Place;
	/** Where its guests lie, one after the other. Default: each has a memory of its own. */
	readonly arena?: GuestArena;
}

/** Runs a policy on a scenario. @throws as makeStage */
export async function runCell(setup: PolicySetup, scenario: Scenario, options: CellOptions = {}): Promise<Cell> {
	const { place, arena } = options;
	const home: Place = place ?? { platform: scenario.platform, encoded: true };
	const places = [home, ...(place === undefined ? scenario.others : [])];
	const ran: Omit<CellPart, "told">[] = [];
	const add = ({ group, dir, bytes }: PartSpec, run: PartRun, because: readonly PredicateStep[]) =>
		ran.push({ ...run, group, dir: directionName(dir), bufferBytes: bytes, because });
	let confidential = false;
	const messages: string[] = [];
	for (const [i, { platform, encoded }] of places.entries()) {
		const stage = await makeStage(setup, scenario, {
			platform,
			encoded,
			build: "engine.audit",
			auditEvents: 1024,
			swiotlb: "512,1",
			cipher: NOISE,
			...(arena === undefined ? {} : { arena }),
		});
		if (stage.refused !== null) {
			add(FIRST, notSetUp({ platform, encoded }, stage.refused), []);
			continue;
		}
		confidential ||= stage.device.accepted && setup.handsSecrets;
		if (i === 0) messages.push(...stage.guest.policyMessages);
		for (const spec of i === 0 ? PARTS : ELSEWHERE) {
			const because = whyOf(stage, spec);
			const run = runPart(partStage(stage), spec);
			if (run !== null) add(spec, run, because);
		}
	}
	const telling = tellingParts(ran);
	const here = ran.filter(({ verdict, group }) => isHere(verdict, home) && group !== "transition");
	const sum = here.reduce((bytes, { verdict }) => bytes + verdict.bytes, 0);
	const neighbours = here.reduce((bytes, { verdict }) => bytes + verdict.neighbourBytes, 0);
	const cost = { nsPer4KiB: null, conversionsPer4KiB: 0 };
	return {
		policy: setup.name,
		scenario: scenario.name,
		platform: home.platform,
		confidential,
		kind: worstKind([...telling].map(({ verdict }) => verdict)),
		breachedBytes: (confidential ? sum : 0) + neighbours,
		exposedBytes: confidential ? 0 : sum,
		parts: ran.map((part) => ({ ...part, told: telling.has(part) })),
		messages,
		...cost,
		...(here.some(({ verdict }) => verdict.cause === null) ? await options.cost?.(setup, scenario) : {}),
	};
}

function isHere({ platform, encoded }: Verdict, home: Place): boolean {
	return platform === home.platform && encoded === home.encoded;
}

/** Told in the opened cell alone, unless it is one of the worst: their data is not the guest's, or their refusal is the rule. */
const QUIET: ReadonlySet<PartGroup> = new Set(["large", "require coherent", "peer page", "mmio", "transition"]);
const LOUD: ReadonlySet<VerdictKind> = new Set(["BREACH", "crash", "undefined"]);

/** The first part, and every one that comes to something of another kind, or meets another hazard, than those before it. */
function tellingParts<P extends Pick<CellPart, "group" | "verdict">>(parts: readonly P[]): ReadonlySet<P> {
	const told = new Set<string>();
	const kinds = new Set<VerdictKind>();
	return new Set(
		parts.filter(({ group, verdict: { kind, also, cause, hazards } }) => {
			const said = [kind, ...also, ...hazards].join();
			if (told.has(said)) return false;
			const isNews = LOUD.has(kind) && !kinds.has(kind);
			// a change of trust that is refused has met no hazard of the guest's own
			if (QUIET.has(group) && !isNews && (hazards.length === 0 || cause !== null)) return false;
			told.add(said);
			for (const each of [kind, ...also]) kinds.add(each);
			return true;
		}),
	);
}
