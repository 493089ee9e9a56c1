/** What a trace lacks, in words: what its figures are worth hangs on it. */
import { LOST_AFTER, type TraceCounters } from "../workload/workload.ts";
import { formatNs, formatNumber } from "./units.ts";

/** What the reader of the trace saw. */
export function traceLine(trace: TraceCounters): string {
	return [
		`${formatNumber(trace.issues)} issued`,
		`${formatNumber(trace.dataRequests)} move data`,
		`${formatNumber(trace.issuesWithoutData)} without data`,
		`${formatNumber(trace.zeroLengthCompletions)} zero-length completions`,
		`${formatNumber(trace.unmatchedCompletions)} completions without issue`,
		`${formatNumber(trace.reissues)} issued again while live`,
		`${formatNumber(trace.drained)} live at the end`,
		`${formatNumber(trace.malformedLines)} malformed lines`,
	].join(", ");
}

function lowerBound({ isLowerBound, lossMarkers, lostEvents, overwrittenEvents }: TraceCounters): string[] {
	if (!isLowerBound) return [];
	const places = lossMarkers === 1 ? "one place" : `${formatNumber(lossMarkers)} places`;
	const marked = lostEvents === 0 ? `events in ${places}` : `${formatNumber(lostEvents)} events in ${places}`;
	const lost = [
		...(lossMarkers === 0 ? [] : [`lost ${marked}`]),
		...(overwrittenEvents === 0
			? []
			: [`overwrote ${formatNumber(overwrittenEvents)} of the oldest events before it was read`]),
	];
	return [`The recorder ${lost.join(", and ")}: every figure of this trace is a lower bound of what the machine did.`];
}

/** A sentence each for what is missing in the trace, and what was done about it. */
export function traceNotes(trace: TraceCounters): string[] {
	const { iodepth, drained, reissues, outlived, longestNs } = trace;
	if (iodepth !== null) {
		const assumed = iodepth === 1 ? "the next one" : `the one ${formatNumber(iodepth)} behind it`;
		return [
			...lowerBound(trace),
			`The trace has no completions. By --iodepth ${iodepth}, a request completes right before ${assumed} is issued: the high-water mark follows from that number, not from the trace.`,
		];
	}
	const lost = reissues + outlived;
	if (lost === 0) return lowerBound(trace);
	const how = [
		...(reissues === 0 ? [] : [`${formatNumber(reissues)} whose sector was issued again while they were live`]),
		...(outlived === 0
			? []
			: [
					`${formatNumber(outlived)} of the ${formatNumber(drained)} live at the end, for more than ${LOST_AFTER} times the longest completed one (${formatNs(longestNs)})`,
				]),
	];
	return [
		...lowerBound(trace),
		`The completions of ${formatNumber(lost)} requests were lost: of ${how.join(", and of ")}. When they ended is not known; here they end at once, and the high-water mark is without them.`,
	];
}
