/** `dma-decisions`: what Linux's DMA code answered, case by case, on the platforms and kernels that the file names. */
import type { Build } from "../../wasm.ts";
import { divergedAt, type Replayed, same } from "../result.ts";
import { DecisionAnswers } from "./answers.ts";
import { bootCase, DecisionArena, zoneWindows } from "./guest.ts";
import { type DecisionCase, type DecisionField, type DecisionHeader, readDecisions } from "./lines.ts";

export { isDecisions } from "./lines.ts";

/**
 * The fields as they are compared: of pages that the page allocator chose, an address tells the zone, its encoding and
 * its offset in the page.
 */
function comparable(header: DecisionHeader, fields: readonly DecisionField[]): DecisionField[] {
	const value = (name: string) => fields.find((field) => field[0] === name)?.[1];
	const name = value("src") === "pages" ? "phys" : value("pool") === "transient" ? "tlb" : null;
	const gpa = name === null ? null : Number.parseInt(value(name) ?? "", 16);
	if (gpa === null || Number.isNaN(gpa)) return [...fields];
	const zone = [...zoneWindows(header)].reverse().find((window) => gpa >= window.gpa)?.zone ?? "none";
	return fields.map((field) => {
		if (field[0] === name) return [field[0], `${zone}+${(gpa % 4096).toString(16)}`];
		if (field[0] !== "dma") return field;
		const encoding = BigInt(`0x${field[1]}`) - BigInt(gpa);
		return ["dma", `${zone}+${(gpa % 4096).toString(16)}|${encoding.toString(16)}`];
	});
}

/** Compares an answer with the recorded one. @throws Diverged at the first field that differs */
function compareDecision(
	header: DecisionHeader,
	{ line, expected }: DecisionCase,
	fields: readonly DecisionField[],
): void {
	const wanted = comparable(header, expected);
	const got = comparable(header, fields);
	for (let i = 0; i < Math.max(wanted.length, got.length); i++) {
		const [name, value] = wanted[i] ?? (got[i] as DecisionField);
		same(
			line,
			name,
			wanted[i] === undefined ? "no more fields" : `${name}=${value}`,
			got[i]?.join("=") ?? "no more fields",
		);
	}
}

/**
 * Replays every case and compares every field; each case boots afresh, so that one that differs hides no other.
 * @throws InputError for a file that is not of the format
 */
export async function verifyDecisions(path: string, text: string, build: Build = "engine"): Promise<Replayed> {
	const { header, cases } = readDecisions(path, text);
	const arena = new DecisionArena(build);
	let [decisions, fields, notSetUp, differing] = [0, 0, 0, 0];
	let first: (Replayed["outcome"] & { identical: false }) | null = null;
	for (const asked of cases) {
		const booted = await bootCase(header, asked, arena);
		if (booted === null) {
			notSetUp++;
			continue;
		}
		try {
			compareDecision(header, asked, new DecisionAnswers(header, asked, booted).run());
			decisions++;
			fields += asked.expected.length;
		} catch (error) {
			differing++;
			const outcome = divergedAt(asked.line, error);
			if (!outcome.identical) first ??= outcome;
		}
	}
	const compared = { decisions, fields, notSetUp, differing };
	const left = notSetUp === 0 ? "" : `, ${notSetUp} not set up`;
	const said = `${decisions}/${cases.length} decisions identical${left}`;
	return { compared, outcome: first === null ? { identical: true, said } : { ...first, said } };
}
