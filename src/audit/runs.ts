/** Runs of equal labels. */

/** The label that all bytes have, or -1: they differ. labels: one at least */
export function uniformLabel(labels: Uint8Array): number {
	// each byte equals the next: compared as a whole, since pages mostly are of one label
	const { length } = labels;
	return Buffer.compare(labels.subarray(1), labels.subarray(0, length - 1)) === 0 ? (labels[0] as number) : -1;
}

/** Runs of equal labels, the first one first, each from `at` to before `end`. */
export function* labelRuns(
	labels: Uint8Array,
): Generator<{ readonly at: number; readonly end: number; readonly number: number }> {
	const { length } = labels;
	if (length === 0) return;
	if (uniformLabel(labels) >= 0) {
		yield { at: 0, end: length, number: labels[0] as number };
		return;
	}
	for (let at = 0; at < length; ) {
		const number = labels[at] as number;
		let end = at + 1;
		while (end < length && labels[end] === number) end++;
		yield { at, end, number };
		at = end;
	}
}
