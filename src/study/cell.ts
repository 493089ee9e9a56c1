/** One policy on one scenario, opened into parts: everything in it was run. */
import { decisionSteps } from "../coco/guest/steps.ts";
import { FOUR_GIB } from "../memory/stretches.ts";
import type { Place, Scenario } from "../policy/scenarios.ts";
import type { PolicySetup } from "../policy/setup.ts";
import { Direction } from "../types.ts";
import type { GuestArena } from "./arena.ts";
import { NOISE } from "./noise.ts";
import { NO_OUTCOME, type PartGroup, type PartOutcome, type PartSpec, type PartStage, runPart } from "./part.ts";
import { makeStage, type Stage } from "./stage.ts";

/** A part on its platform, judged. */
export interface CellPart extends PartOutcome {
	readonly name: string;
	readonly group: PartGroup;
	/** The platform, and "plain" where addresses carry no bit. */
	readonly on: string;
	/** As a cell says it: private, exposed n bytes, BREACH n bytes, refused: reason, crash: where. */
	readonly verdict: string;
	/** What decided: the last predicates that the kernel asked, with their answers. */
	readonly because: string;
}

export interface Cell {
	readonly policy: string;
	readonly scenario: string;
	readonly platform: string;
	/** Whether the device's data is confidential: what its offer or its accepted state says, whatever the policy believes. */
	readonly confidential: boolean;
	/** The streaming parts in a line, and what differs from them. */
	readonly verdict: string;
	readonly breachedBytes: number;
	readonly exposedBytes: number;
	readonly parts: readonly CellPart[];
	/** A bounced, shared or direct 4 KiB TO_DEVICE: map and unmap on the release build, median ns; null: refused or not measured. */
	readonly nsPer4KiB: number | null;
	/** Page conversions that those two calls make. */
	readonly conversionsPer4KiB: number;
}

const { ToDevice, FromDevice, Bidirectional } = Direction;
const streaming = (name: string, dir: Direction): PartSpec => ({ name, group: "streaming", bytes: 4096, dir });

/** The parts of every cell. */
const PARTS: readonly PartSpec[] = [
	streaming("4 KiB TO_DEVICE", ToDevice),
	streaming("4 KiB FROM_DEVICE", FromDevice),
	streaming("4 KiB BIDIRECTIONAL", Bidirectional),
	{ name: "32 B FROM_DEVICE", group: "small", bytes: 32, dir: FromDevice },
	{ name: "96 B TO_DEVICE", group: "small", bytes: 96, dir: ToDevice },
	{ name: "4 KiB TO_DEVICE above 4 GiB", group: "above 4 GiB", bytes: 4096, dir: ToDevice },
	{ name: "coherent 4 KiB", group: "coherent", bytes: 4096, dir: Bidirectional },
	{ name: "coherent 4 KiB, may not sleep", group: "atomic", bytes: 4096, dir: Bidirectional },
	{ name: "a peer's MMIO", group: "mmio", bytes: 4096, dir: Bidirectional },
	{ name: "trust changes under a mapping", group: "transition", bytes: 4096, dir: ToDevice },
];
/** What is run on the scenario's other platforms: enough to see how addresses look there. */
const ELSEWHERE = PARTS.filter(
	({ dir, group }) => (group === "streaming" && dir === ToDevice) || group === "above 4 GiB" || group === "coherent",
);

/** What a part says in a cell. */
function verdictOf(part: PartOutcome, confidential: boolean): string {
	const said: string[] = [];
	if (part.sharedBytes > 0) said.push(`${confidential ? "BREACH" : "exposed"} ${bytesText(part.sharedBytes)}`);
	if (part.neighbourBytes > 0) said.push(`${bytesText(part.neighbourBytes)} of neighbours exposed`);
	if (part.crash !== null) said.push(`crash: ${part.crash}`);
	if (part.refused !== null) said.push(`refused: ${part.refused}`);
	if (part.hiddenBytes > 0) said.push(`private (${bytesText(part.hiddenBytes)} hidden from the host)`);
	return said.length === 0 ? "private" : said.join(", ");
}

function bytesText(bytes: number): string {
	return `${bytes.toLocaleString("en-US")} bytes`;
}

function partStage(stage: Stage & { refused: null }): PartStage {
	const { guest, device, setup } = stage;
	return {
		guest,
		device,
		preShared: (setup.policy.preSharedPercent ?? 0) > 0,
		mmioShared: setup.mmioShared,
	};
}

function whyOf(stage: Stage & { refused: null }, { group, bytes, dir }: PartSpec): string {
	const { guest, device } = stage;
	if (group === "coherent" || group === "atomic") {
		const { forceDmaUnencrypted } = device.predicates;
		return `force_dma_unencrypted(dev) ${forceDmaUnencrypted}: ${forceDmaUnencrypted ? "its pages are decrypted" : "its pages stay as they are"}`;
	}
	if (group === "mmio" || group === "transition") return "";
	const gpa = guest.pages.alloc(1, group === "above 4 GiB" ? {} : { belowGpa: FOUR_GIB });
	if (gpa < 0) return "";
	try {
		return decisionSteps(guest, device, { gpa, bytes, dir })
			.deciding.map(({ predicate, value, why }) => `${predicate} ${value}: ${why}`)
			.join("; ");
	} finally {
		guest.pages.free(gpa, 1);
	}
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
	const parts: CellPart[] = [];
	let confidential = false;
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
		const on = encoded ? platform : `${platform}, plain addresses`;
		if (stage.refused !== null) {
			const outcome = { ...NO_OUTCOME, refused: stage.refused };
			const first = PARTS[0] as PartSpec;
			parts.push({
				...outcome,
				name: first.name,
				group: first.group,
				on,
				verdict: verdictOf(outcome, false),
				because: "",
			});
			continue;
		}
		confidential ||= stage.device.accepted;
		for (const spec of i === 0 ? PARTS : ELSEWHERE) {
			// before it runs: a part may end the trust that its data was written in
			const { accepted } = stage.device;
			const because = whyOf(stage, spec);
			const outcome = runPart(partStage(stage), spec);
			if (outcome === null) continue;
			const { name, group } = spec;
			parts.push({ ...outcome, name, group, on, verdict: verdictOf(outcome, accepted), because });
		}
	}
	const here = parts.filter(({ on, group }) => on === parts[0]?.on && group !== "transition");
	const sum = here.reduce((bytes, { sharedBytes }) => bytes + sharedBytes, 0);
	const cost = { nsPer4KiB: null, conversionsPer4KiB: 0 };
	return {
		policy: setup.name,
		scenario: scenario.name,
		platform: home.platform,
		confidential,
		verdict: cellVerdict(parts),
		breachedBytes: confidential ? sum : 0,
		exposedBytes: confidential ? 0 : sum,
		parts,
		...cost,
		...(here.some(({ refused, crash }) => refused === null && crash === null)
			? await options.cost?.(setup, scenario)
			: {}),
	};
}

/** What a part's verdict may begin with or consist of, the worst first. */
const KINDS = {
	BREACH: /^BREACH /,
	exposed: /^exposed |neighbours exposed$/,
	crash: /^crash: /,
	refused: /^refused: /,
	hidden: /hidden from the host\)$/,
	private: /^private$/,
} as const;
export type VerdictKind = keyof typeof KINDS;

/** The kinds of verdict in a part's verdict, the worst first. */
export function kindsOf(verdict: string): VerdictKind[] {
	const said = verdict.split(", ");
	return (Object.keys(KINDS) as VerdictKind[]).filter((kind) => said.some((text) => KINDS[kind].test(text)));
}

/** The first part, and every group and platform that says something of another kind. */
export function tellingParts(parts: readonly CellPart[]): CellPart[] {
	const told = new Set<string>();
	return parts.filter(({ group, verdict }) => {
		const kinds = kindsOf(verdict).join();
		// told in the opened cell alone: MMIO moves no data of the guest's, and what a change of trust is refused for is its rule
		if (group === "mmio" || group === "transition" || told.has(kinds)) return false;
		told.add(kinds);
		return true;
	});
}

/** A cell in a line. */
function cellVerdict(parts: readonly CellPart[]): string {
	const [first, ...others] = tellingParts(parts);
	if (first === undefined) return "";
	const said = others.map(({ name, group, on, verdict }) => {
		const where = on !== first.on ? `${group} on ${on}` : group === "streaming" ? name : group;
		return `${where} ${verdict}`;
	});
	return [first.verdict, ...said].join("; ");
}
