/** Policies compared as rows of figures: cost from the release build, exposure from the audit build. */
import { formatBytes } from "../bytes.ts";
import type { PolicyResult } from "../study/compare.ts";
import { formatNumber } from "./table.ts";

export interface PolicyRow {
	readonly label: string;
	readonly cells: readonly string[];
	/** Starts a group of rows. */
	readonly group?: string;
}

/** Names of the two groups: which figures came from which build. */
const COST_GROUP = "Cost: release build, timed";
const EXPOSURE_GROUP = "Exposure: audit build, same input and seed";

function exactBytes(bytes: number): string {
	return `${formatNumber(bytes)} B`;
}

/** The verdict of a policy in a word or two. */
export function exposureWord({ exposure }: PolicyResult): string {
	const { refused, breachedBytes, exposedBytes, neighbourBytes, drive } = exposure;
	if (refused !== null) return "refused";
	if (drive?.crash != null) return "crash";
	if (breachedBytes > 0) return "BREACH";
	return exposedBytes + neighbourBytes > 0 ? "exposed" : "private";
}

/** Rows of the policies on one trace. */
export function policyRows(results: readonly PolicyResult[]): PolicyRow[] {
	const cost = (label: string, figure: (cost: NonNullable<PolicyResult["cost"]>) => string): PolicyRow => ({
		label,
		cells: results.map((result) => (result.cost === null ? "-" : figure(result.cost))),
	});
	const exposure = (label: string, figure: (exposure: PolicyResult["exposure"]) => string): PolicyRow => ({
		label,
		cells: results.map((result) => figure(result.exposure)),
	});
	const device = ({ owners }: PolicyResult["exposure"]) => owners.find(({ owner }) => owner !== "guest");
	const baseline = results.find(({ cost: figures }) => figures !== null)?.cost?.dmaNsPerRequest ?? 0;
	return [
		{ ...cost("DMA layer, ns per request", (c) => formatNumber(c.dmaNsPerRequest)), group: COST_GROUP },
		cost("  against the first", (c) => `${formatNumber(c.dmaNsPerRequest / baseline)}x`),
		cost("DMA layer, ns per KiB", (c) => formatNumber(c.dmaNsPerKiB)),
		cost("p99, ns", (c) => formatNumber(c.latency.p99Ns)),
		cost("both together, GB/s", (c) => formatNumber(c.gigabytesPerSecond)),
		cost("mappings", (c) => formatNumber(c.directMaps + c.bouncedMaps)),
		cost("  of them bounced", (c) => formatNumber(c.bouncedMaps)),
		cost("copied into slots", (c) => formatBytes(c.bytesCopiedIn)),
		cost("copied back", (c) => formatBytes(c.bytesCopiedBack)),
		cost("refused commands", (c) => formatNumber(Object.values(c.failures).reduce((sum, count) => sum + count, 0))),
		cost("driven from", (c) => (c.driver === "wasm" ? "WebAssembly" : "TypeScript")),
		{ label: "verdict", cells: results.map(exposureWord), group: EXPOSURE_GROUP },
		exposure("breached", (e) => exactBytes(e.breachedBytes)),
		exposure("exposed, as designed", (e) => exactBytes(e.exposedBytes)),
		exposure("  by the first copy of FROM_DEVICE", (e) => exactBytes(device(e)?.initialBytes ?? 0)),
		exposure("neighbours in shared pages", (e) => exactBytes(e.neighbourBytes)),
		exposure("hidden from the host", (e) => exactBytes(device(e)?.hiddenBytes ?? 0)),
		exposure("readable at the end", (e) => exactBytes(e.owners.reduce((sum, o) => sum + o.standingBytes, 0))),
		exposure("  in slots that are free", (e) => exactBytes(e.owners.reduce((sum, o) => sum + o.residueBytes, 0))),
		exposure("page conversions", (e) => formatNumber(e.drive?.sharedInPlace ?? 0)),
		exposure("not delivered", (e) =>
			formatNumber(Object.values(e.drive?.undelivered ?? {}).reduce((sum, count) => sum + count, 0)),
		),
	];
}
